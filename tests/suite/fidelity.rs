//! A build with checkpoints behaves as without them, and goes back to the exact state before each
//! of its runs.

use super::debugger::wait_for_stops;
use crate::common::crafted::Crafted;
use crate::common::{Bed, build, cases, image, list};
use std::fs;

cases! {
    [Containers, Program("git"), Program("perl")] => each_run_can_be_gone_back_to, each_sealed_run_can_be;
    [Extended, Containers, Program("git"), Program("perl")] => thirty_commands_and_20000_files, with_a_cache,
        thirty_sealed_commands, sealed_with_a_cache;
    [Extended, Containers, Image("debian"), Program("git"), Program("perl")] => with_other_images,
        sealed_with_other_images, with_a_cache_in_an_image, sealed_with_a_cache_in_an_image, with_privileges_in_an_image;
    [Extended, Containers, Program("git"), Program("perl")] => with_privileges, privileges_are_not_sealed;
}

/// The complete state of places that commands write to, without what differs from build to build.
const STATE: &str = "( for top in /tmp /root /home /var/tmp $CODEBUILD_SRC_DIR; do cd $top; echo $top | sed 's/src[0-9]*//'; \
    find . -xdev ! -path ./buildspec.yml ! -path '*/g/.git/index' \\( -type d -printf '%p d %m %U %G\\n' -o \
    -printf '%p %y %m %U %G %l %n %s\\n' \\) | sort; \
    find . -xdev -type f ! -path ./buildspec.yml ! -path '*/g/.git/index' -exec md5sum {} + | sort; done; cd $CODEBUILD_SRC_DIR; \
    test $(uname -m) != x86_64 || find . -xdev -type f ! -path '*/g/.git/*' | sort | perl -ne 'chomp; $k = \"user.mark\"; $b = \"\\0\" x 9; \
    $n = syscall(191, $_, $k, $b, 9); print \"$_ has \", substr($b, 0, $n), \"\\n\" if $n > 0' )";

/// It continues in the background.
const DAEMON: &str = "sleep 1000 & true";

/// Commands that create and change all kinds of files.
const COMMANDS: [&str; 14] = [
    "mkdir -p a/b/c; echo 1 > a/b/c/f; ln a/b/c/f a/hard; ln -s b/c a/soft; mkfifo a/pipe",
    "echo 2 >> a/hard; sed -i s/source/changed/ in",
    "mv a/b a/moved",
    "chmod 2711 a/moved; chmod 4755 a/hard; touch -d @1000000000 a/hard; chmod 0 a/pipe",
    "rm -r dir; mkdir dir; echo new > dir/new; mv other elsewhere",
    "export GIT_AUTHOR_DATE=@1000000000+0000 GIT_COMMITTER_DATE=@1000000000+0000; git init -q g; cd g; \
     echo 1 > f; git add f; git -c user.name=n -c user.email=e commit -qm m; mkdir d; git mv f d/f; cd ..",
    "perl -e 'use Socket; socket(S,PF_UNIX,SOCK_STREAM,0); bind(S,sockaddr_un(\"a/sock\")) or die'",
    DAEMON,
    "mkdir many; seq 200 | split -a 3 -l 1 - many/",
    "rm many/aaa*; cp -a many more; mkdir -m 1777 /tmp/sticky",
    "test $(uname -m) != x86_64 || perl -e '$f = \"a/hard\"; $n = \"user.mark\"; $v = \"set\"; syscall(188, $f, $n, $v, 3, 0)'; \
     truncate -s 20M sparse; printf x | dd of=sparse bs=1 seek=9M conv=notrunc status=none; echo y > ~/h",
    "find more -type f -exec chmod 600 {} +; find many -newer in -exec touch -d @1 {} +",
    "rm -rf g/.git/logs more/*; ln -sf /nowhere a/soft; echo z > /var/tmp/z; mkdir -p /home/o/p",
    "mv a a.old; cp -a a.old a; rm -rf a.old/moved",
];

/// More of them, and 20,000 files.
const MORE: [&str; 16] = [
    "for i in 1 2 3; do ln many/aab a$i; done; sed -i s/2/x/ a1; echo in place >> a2",
    "mkdir -p p/q/r; echo 1 > p/q/r/f; mv p/q p/z; echo > p/q",
    "rm -rf more; mkdir more; echo opaque > more/new",
    "cd g; git config user.name n; git config user.email e; echo 2 > d/f; git commit -qam two; git checkout -q HEAD~1; cd ..",
    "chmod -R go-rwx g; chmod 1777 p; chmod -R a+X p",
    "tar --sort=name -cf t.tar many && mkdir u && tar -xf t.tar -C u && rm t.tar",
    "cp -al u v; rm u/many/aac; echo changed > v/many/aad",
    "ln -s ../p u/link; mv u/link v/; mv v/many v/few",
    "find v -type f -name 'aa[d-f]' -delete; rm p/z/r/f; rmdir p/z/r",
    "i=0; while test $i -lt 50; do echo $i > app; i=$((i+1)); done; truncate -s 1 app",
    "mkfifo a/again; rm -f a/pipe; mv a/again a/pipe; umask 077; mkdir sec; echo > sec/f",
    "mkdir big; seq 20000 | split -a 4 -l 1 - big/",
    "rm big/aaa*; mv big large",
    "find large -name 'aab*' -exec chmod 600 {} +; rm -r many",
    "echo one > large/one; ln large/one large/two; echo two >> large/two",
    "mv large/one .; mkdir large/in; mv large/aac* large/in",
];

/// A variant of running the build.
#[derive(Default)]
struct Way<'a> {
    /// `None`: the image `host`.
    image: Option<&'a str>,
    options: &'a [&'a str],
    /// Commands that run before the others.
    first: &'a [&'a str],
    has_more: bool,
    has_cache: bool,
    /// Whether the layer is sealed before each command while nothing runs in the background. No
    /// file has several names then.
    is_sealed: bool,
    /// Goes back to every Nth run.
    every: usize,
}

impl Way<'_> {
    fn bed(&self) -> Bed {
        let bed = self.image.map_or_else(Bed::host, Bed::with_image);
        bed.write("in", "source\n");
        bed.write("dir/old", "1");
        bed.write("other/deep/f", "1");
        if self.has_cache {
            let fill = "mkdir local; seq 600 | split -a 3 -l 1 - local/; find local -type f -exec touch -d @1 {} +";
            bed.build(&self.spec(&[fill]), &words(&self.options(&bed, &[]))).code(0);
        }
        bed
    }

    fn spec(&self, commands: &[&str]) -> String {
        let cache = if self.has_cache { "cache:\n  paths: ['local/**/*']\n" } else { "" };
        build(commands) + cache
    }

    fn options(&self, bed: &Bed, more: &[&str]) -> Vec<String> {
        let mut all: Vec<String> =
            self.options.iter().chain(more).map(|option| (*option).to_owned()).collect();
        if self.has_cache {
            all.extend(["--cache".to_owned(), bed.path("cache").display().to_string()]);
        }
        all
    }

    fn commands(&self) -> Vec<String> {
        let more: &[&str] = if self.has_more { &MORE } else { &[] };
        let all = self.first.iter().chain(&COMMANDS).chain(more).copied();
        // Images contain no git.
        let all = all.filter(|command| self.image.is_none() || !command.contains("git "));
        if !self.is_sealed {
            return all.map(str::to_owned).collect();
        }
        let copies = |command: &str| match command.contains("ln -s") {
            true => command.replacen("ln a", "cp a", 1),
            false => command.replace("ln ", "cp ").replace("cp -al", "cp -a"),
        };
        let mut commands: Vec<String> =
            all.filter(|command| *command != DAEMON).map(copies).collect();
        commands.push(format!("echo > last; {DAEMON}"));
        commands
    }

    /// The kinds of the first checkpoints.
    fn kinds_are(&self, bed: &Bed, count: usize) {
        let events = fs::read_to_string(bed.live().join("events.jsonl")).unwrap();
        let events = events.lines().map(|line| serde_json::from_str(line).unwrap());
        let checkpoints: Vec<serde_json::Value> =
            events.filter(|event: &serde_json::Value| event["type"] == "checkpoint").collect();
        let kind = |event: &serde_json::Value| event["data"]["kind"].as_str().unwrap().to_owned();
        let kinds: Vec<String> = checkpoints.iter().map(kind).collect();
        let mut wanted = vec![if self.is_sealed { "sealed" } else { "copied" }; count];
        wanted.push("copied");
        assert_eq!(kinds, wanted, "{checkpoints:?}");
    }

    /// A build without checkpoints prints its state after each command; one with them goes back to
    /// some of them.
    fn compare(&self) {
        let plain = self.bed();
        let commands = self.commands();
        let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
        let told: Vec<&str> = commands.iter().flat_map(|command| [*command, STATE]).collect();
        let told = self.spec(&[&[STATE], &told[..]].concat());
        plain.build(&told, &words(&self.options(&plain, &[]))).code(0);
        let states = outputs(&plain);
        assert_eq!(states.len(), commands.len() + 1);
        // The numbers of system calls are those of this architecture.
        if cfg!(target_arch = "x86_64") {
            let has_any = |state: &String| state.contains("./a/hard has set");
            assert!(states.iter().any(has_any), "attributes are looked at");
        }
        let bed = self.bed();
        let count = commands.len() + 1;
        let commands = [&commands[..], &["exit 3"]].concat();
        let kept: &[&str] = match (self.is_sealed, self.options.contains(&"--checkpoint")) {
            (true, _) => &["--checkpoint", "sealed"],
            (false, true) => &[],
            (false, false) => &["--checkpoint", "auto"],
        };
        let options = self.options(&bed, &[&["--break-on", "failure"], kept].concat());
        let running = bed.start(&self.spec(&commands), &words(&options));
        wait_for_stops(&running, &format!("because build:{count} has failed"), 1);
        self.kinds_are(&bed, count - 1);
        is_as(&bed.runner(["eval", STATE]).code(0).stdout, &states[count - 1], "at its end");
        for index in (0..count).rev().step_by(self.every) {
            let place = format!("build:{}", index + 1);
            bed.runner(["rewind", "--to", &place]).code(0);
            let state = bed.runner(["eval", STATE]).code(0).stdout;
            is_as(&state, &states[index], &place);
        }
        // And continues from there.
        bed.runner(["resume"]).code(0);
        wait_for_stops(&running, &format!("because build:{count} has failed"), 2);
        is_as(&bed.runner(["eval", STATE]).code(0).stdout, &states[count - 1], "at its end");
        bed.runner(["abort"]).code(0);
        running.ends(1);
    }
}

fn words(options: &[String]) -> Vec<&str> {
    options.iter().map(String::as_str).collect()
}

/// Prints only the differences.
#[track_caller]
fn is_as(one: &str, other: &str, at: &str) {
    let lacks = |one: &str, other: &str| -> Vec<String> {
        let other: std::collections::HashSet<&str> = other.lines().collect();
        one.lines().filter(|line| !other.contains(line)).take(50).map(str::to_owned).collect()
    };
    assert!(one == other, "{at}: {:?} for {:?}", lacks(one, other), lacks(other, one));
}

/// The output of each STATE command.
fn outputs(bed: &Bed) -> Vec<String> {
    // A build that only filled a cache has no such output.
    let builds = bed.home().join("builds");
    let logs = list(&builds).into_iter().map(|build| builds.join(build).join("output.log"));
    let log = logs.map(|log| fs::read_to_string(log).unwrap()).max_by_key(String::len).unwrap();
    let mut states: Vec<String> = Vec::new();
    for line in log.split_inclusive('\n') {
        if line == "/tmp\n" {
            states.push(String::new());
        }
        states.last_mut().unwrap().push_str(line);
    }
    states
}

fn each_run_can_be_gone_back_to() {
    Way { every: 4, ..Way::default() }.compare();
}

fn each_sealed_run_can_be() {
    Way { every: 4, is_sealed: true, ..Way::default() }.compare();
}

fn thirty_sealed_commands() {
    Way { every: 1, has_more: true, is_sealed: true, ..Way::default() }.compare();
}

fn thirty_commands_and_20000_files() {
    Way { every: 1, has_more: true, ..Way::default() }.compare();
}

/// The cache is a layer below what the build writes.
fn with_a_cache() {
    a_cache(false);
}

fn sealed_with_a_cache() {
    a_cache(true);
}

fn a_cache(is_sealed: bool) {
    let first = [
        "rm local/aaa; echo 1 > local/aab; mv local/aac local/moved; chmod 600 local/aad; ln local/aae local/x",
    ];
    Way { every: 1, first: &first, has_cache: true, is_sealed, ..Way::default() }.compare();
}

fn with_other_images() {
    other_images(false);
}

fn sealed_with_other_images() {
    other_images(true);
}

fn other_images(is_sealed: bool) {
    let tar = image("debian").with_extension("tar");
    let rootfs = format!("rootfs:{}", tar.display());
    Way { image: Some(&rootfs), is_sealed, every: 1, ..Way::default() }.compare();
    // As when pulled: in layers.
    let bed = Bed::host();
    let crafted = Crafted::new(bed.path("layout"));
    let layer = crafted.blob(&fs::read(tar).unwrap());
    let config = crafted.config(&serde_json::json!({"Env": ["PATH=/usr/bin:/bin"]}));
    crafted.image(&config, &[layer]);
    Way { image: Some(&crafted.reference()), is_sealed, every: 3, ..Way::default() }.compare();
}

/// Without root they are fewer.
fn with_privileges() {
    Way { every: 1, options: &["--privileged", "--network", "host"], ..Way::default() }.compare();
}

fn with_privileges_in_an_image() {
    let rootfs = format!("rootfs:{}", image("debian").with_extension("tar").display());
    Way {
        image: Some(&rootfs),
        every: 3,
        options: &["--privileged", "--network", "host"],
        ..Way::default()
    }
    .compare();
}

/// Asked for, they are copied none the less.
fn privileges_are_not_sealed() {
    let options = ["--privileged", "--network", "host", "--checkpoint", "sealed"];
    Way { every: 4, options: &options, ..Way::default() }.compare();
}

fn with_a_cache_in_an_image() {
    a_cache_in_an_image(false);
}

fn sealed_with_a_cache_in_an_image() {
    a_cache_in_an_image(true);
}

fn a_cache_in_an_image(is_sealed: bool) {
    let rootfs = format!("rootfs:{}", image("debian").with_extension("tar").display());
    let first = ["rm local/aaa; echo 1 > local/aab; mv local/aac local/moved; chmod 600 local/aad"];
    let image = Some(&*rootfs);
    Way { image, every: 3, first: &first, has_cache: true, is_sealed, ..Way::default() }.compare();
}
