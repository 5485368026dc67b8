//! Runs the project's buildspecs: their first lines say what to expect (buildspecs/README.md).

use crate::common::{Bed, Running, cases, image, list, outcome, project};
use std::path::PathBuf;

cases! {
    [Users, Image("busybox")] => valid, batch, breakpoint, debugger, invalid;
}

/// A buildspec and its expectations.
struct Example {
    path: PathBuf,
    text: String,
}

impl Example {
    /// Every example in a folder of `buildspecs/`.
    fn all(folder: &str) -> Vec<Self> {
        let dir = project().join("buildspecs").join(folder);
        let mut names = list(&dir);
        names.sort();
        assert!(!names.is_empty(), "no examples in {}", dir.display());
        let paths = names.into_iter().map(|name| dir.join(name));
        paths.map(|path| Example { text: std::fs::read_to_string(&path).unwrap(), path }).collect()
    }

    /// The values of its lines `# KEY: VALUE`.
    fn says(&self, key: &str) -> Vec<&str> {
        let start = format!("# {key}: ");
        self.text.lines().filter_map(|line| line.strip_prefix(start.as_str())).collect()
    }

    /// Additional options of its run.
    fn options(&self) -> Vec<&str> {
        let parted = self.says("options").into_iter().flat_map(|options| options.split(' '));
        parted.chain(self.says("option")).collect()
    }

    fn number(&self, key: &str) -> Option<i32> {
        self.says(key).first().map(|value| value.parse().unwrap())
    }

    fn bed(&self) -> Bed {
        if self.says("image") == ["host"] { Bed::host() } else { Bed::new() }
    }

    #[track_caller]
    fn check(&self, code: i32, said: &str) {
        let name = self.path.display();
        let wanted = self.number("exit").unwrap_or_else(|| panic!("{name} has no `# exit: N`"));
        assert_eq!(code, wanted, "{name}:\n{said}");
        for text in self.says("shows") {
            assert!(said.contains(text), "{name} does not show {text:?}:\n{said}");
        }
        for text in self.says("hides") {
            assert!(!said.contains(text), "{name} shows {text:?}:\n{said}");
        }
    }
}

fn run_all(folder: &str) {
    for example in Example::all(folder) {
        let bed = example.bed();
        let mut command = bed.build_command("", &example.options());
        let outcome = outcome(command.arg(&example.path));
        example.check(outcome.code, &(outcome.stdout + &outcome.stderr));
    }
}

fn valid() {
    run_all("valid");
}

fn batch() {
    for example in Example::all("batch") {
        let bed = example.bed();
        bed.write("buildspec.yml", "");
        let image = format!("rootfs:{}", image("busybox").display());
        let mut command = bed.command(["batch", "--project", "demo", "--image", &image]);
        let outcome = outcome(command.args(example.options()).arg(&example.path));
        example.check(outcome.code, &(outcome.stdout + &outcome.stderr));
    }
}

fn debugger() {
    // Nobody connects at their stops.
    run_all("debugger");
}

fn invalid() {
    run_all("invalid");
}

fn breakpoint() {
    // Without sessions nothing stops them.
    run_all("breakpoint");
    for example in Example::all("breakpoint") {
        let bed = example.bed();
        let mut command = bed.build_command("", &["--enable-session"]);
        command.arg(&example.path);
        let mut build = Running::spawn(command);
        let pauses = usize::try_from(example.number("pauses").unwrap()).unwrap();
        for pause in 1..=pauses {
            build.stderr.wait_until(&format!("pause {pause}"), |said| pauses_in(said) >= pause);
            bed.runner(["resume"]).code(0);
        }
        let code = build.wait();
        let said = build.stdout.text() + &build.stderr.text();
        example.check(code, &said);
        assert_eq!(pauses_in(said.as_bytes()), pauses, "{}:\n{said}", example.path.display());
    }
}

fn pauses_in(said: &[u8]) -> usize {
    String::from_utf8_lossy(said).matches("is paused at a breakpoint").count()
}
