//! The image `host`: this machine's tools, none of its secrets.

use crate::common::{Bed, build, cases, outcome, write_program};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

cases! {
    [Containers] => accounts_are_locked, a_hidden_program_is_named, names_resolve;
    [Root] => fresh_and_writable;
    [Root, Program("unshare")] => tools_without_secrets;
    [Root, Program("apt-get"), Program("dpkg-deb")] => packages_can_be_installed;
}

fn tools_without_secrets() {
    let bed = Bed::host();
    let spec = build(&[
        "ls /etc | grep runner-test",
        "ls -A /root /home /srv /mnt /media /run /var/log | grep -v ':$' | grep -v '^$'; ls -A /etc/ssl/private /etc/sudoers.d 2>/dev/null | grep -v ':$' | grep -v '^$'; ls \
         /etc/ssh/ssh_host_*_key 2>/dev/null; test -e /var/spool/cron; echo cron $?",
        "cat --version > /dev/null && test -s /etc/passwd && ls /usr/bin > /dev/null; echo $?",
        &format!("ls -d {}; ls /var/tmp /tmp", bed.home().display()),
    ]);
    let add = |etc: &Path| {
        for (name, mode) in [("test.key", 0o644), ("test-private", 0o600), ("test-public", 0o644)] {
            let path = etc.join(format!("runner-{name}"));
            fs::write(&path, "secret of the host\n").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    let output = bed.build_with_etc(&spec, add).code(0).output();
    assert_eq!(
        output,
        format!(
            "runner-test-public\nlock\ncron 1\n0\nls: cannot access '{}': No such file or \
             directory\n/tmp:\n\n/var/tmp:\n",
            bed.home().display()
        )
    );
}

fn fresh_and_writable() {
    let output = Bed::host()
        .build(
            &build(&[
                "stat -c '%a %u:%g %n' / /root /home /tmp /var/tmp /run /run/lock /codebuild \
                 /codebuild/output",
                "touch /root/a /home/a /tmp/a /var/tmp/a /run/a /codebuild/a /usr/a /etc/a /opt/a /a \
                 && readlink /var/run && rm /usr/bin/env && mv /usr/share /usr/share2 && ls \
                 /usr/share2 > /dev/null && echo moved",
                "touch /codebuild/readonly/a 2>&1; hostname | wc -c",
            ]),
            &[],
        )
        .code(0)
        .output();
    assert_eq!(
        output,
        "755 0:0 /\n700 0:0 /root\n755 0:0 /home\n1777 0:0 /tmp\n1777 0:0 /var/tmp\n755 0:0 \
         /run\n1777 0:0 /run/lock\n755 0:0 /codebuild\n755 0:0 /codebuild/output\n/run\nmoved\ntouch: \
         cannot touch '/codebuild/readonly/a': Read-only file system\n13\n"
    );
    assert!(Path::new("/usr/bin/env").exists());
}

fn accounts_are_locked() {
    let output = Bed::host()
        .build(&build(&["grep -c . /etc/shadow; grep -v ':\\*:' /etc/shadow; cut -d: -f2 /etc/gshadow | sort -u"]), &[])
        .code(0)
        .output();
    let accounts = fs::read_to_string("/etc/passwd").unwrap().lines().count();
    assert_eq!(output, format!("{accounts}\n*\n"));
}

fn a_hidden_program_is_named() {
    let bed = Bed::host();
    let bin = bed.path("home/.tool/bin");
    fs::create_dir_all(&bin).unwrap();
    let program = bin.join("frobnicate");
    write_program(&program, "#!/bin/sh\necho frobnicated\n");
    let path = format!("/usr/bin:/bin:{}", bin.display());
    let run = |options: &[&str]| {
        let mut command = bed.build_command(&build(&["cd /tmp && frobnicate --all"]), options);
        let output = command.env("PATH", &path).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let (code, _, stderr) = run(&[]);
    assert_eq!(code, 1);
    let mount = format!("{0}:{0}", bin.display());
    let hint = format!("show it with --mount {mount} -e PATH");
    assert!(stderr.contains("`frobnicate` is") && stderr.contains(&hint), "{stderr}");
    // As in the hint.
    let (code, stdout, stderr) = run(&["--mount", &mount, "-e", "PATH"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("frobnicated"), "{stdout}");
}

fn names_resolve() {
    let output = Bed::host()
        .build(
            &build(&[
                "getent hosts $HOSTNAME localhost; grep -c . /etc/resolv.conf > /dev/null; echo ok",
            ]),
            &[],
        )
        .code(0)
        .output();
    assert!(output.starts_with("127.0.1.1") && output.ends_with("ok\n"), "{output}");
}

/// From the test's own repository: the test covers apt's tools in the image, not a mirror.
fn packages_can_be_installed() {
    const CONTROL: &str = "Package: runner-test-hello\nVersion: 1.0\nArchitecture: all\nMaintainer: t \
                           <t@example.com>\nDescription: says hello\n";
    let bed = Bed::host();
    let package = bed.path("package");
    for (name, text) in [
        ("DEBIAN/control", CONTROL),
        ("usr/bin/runner-test-hello", "#!/bin/sh\necho 'Hello, world!'\n"),
    ] {
        let path = package.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }
    outcome(Command::new("chmod").args(["-R", "u=rwX,go=rX"]).arg(&package)).code(0);
    fs::set_permissions(
        package.join("usr/bin/runner-test-hello"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    let file = bed.source().join("hello.deb");
    let mut make = Command::new("dpkg-deb");
    outcome(make.args(["--build", "--root-owner-group"]).args([&package, &file])).code(0);
    let sum = outcome(Command::new("sha256sum").arg(&file)).code(0).stdout;
    let (sum, size) = (sum.split(' ').next().unwrap(), fs::metadata(&file).unwrap().len());
    let listed = format!("{CONTROL}Filename: ./hello.deb\nSize: {size}\nSHA256: {sum}\n");
    bed.write("Packages", listed);
    let output = bed
        .build(
            &build(&[
                // apt reads it as its own user.
                "cp -r . /srv/repository; chmod -R a+rX /srv/repository; rm -rf \
                 /etc/apt/sources.list.d; echo 'deb [trusted=yes] file:/srv/repository ./' > \
                 /etc/apt/sources.list",
                "(apt-get update -qq && apt-get install -y -qq runner-test-hello) < /dev/null > \
                 /tmp/log 2>&1 || cat /tmp/log; runner-test-hello; dpkg -s runner-test-hello | grep \
                 ^Status",
            ]),
            &[],
        )
        .code(0)
        .output();
    assert_eq!(output, "Hello, world!\nStatus: install ok installed\n");
    let own = Path::new("/usr/bin/runner-test-hello");
    assert!(!own.exists(), "the host is as it was");
}
