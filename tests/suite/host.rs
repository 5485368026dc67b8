//! The image `host`: this machine's tools, none of its secrets.

use crate::common::{Bed, build, cases};
use std::fs;
use std::os::unix::fs::PermissionsExt;

cases! {
    [Containers] => accounts_are_locked, a_hidden_program_is_named, names_resolve;
    [Root] => tools_without_secrets, fresh_and_writable;
    [Root, Program("apt-get")] => packages_can_be_installed;
}

/// A file in the host's /etc that is gone again after the test.
struct InEtc(std::path::PathBuf);

impl InEtc {
    fn new(name: &str, mode: u32) -> Self {
        let path = std::path::Path::new("/etc").join(name);
        fs::write(&path, "secret of the host\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        InEtc(path)
    }
}

impl Drop for InEtc {
    fn drop(&mut self) {
        // The test is over, well or not.
        let _ = fs::remove_file(&self.0);
    }
}

fn tools_without_secrets() {
    let tag = std::process::id();
    let _key = InEtc::new(&format!("runner-test-{tag}.key"), 0o644);
    let _private = InEtc::new(&format!("runner-test-{tag}-private"), 0o600);
    let _public = InEtc::new(&format!("runner-test-{tag}-public"), 0o644);
    let bed = Bed::host();
    let output = bed
        .build(
            &build(&[
                &format!("ls /etc | grep runner-test-{tag}"),
                "ls -A /root /home /srv /mnt /media /run /var/log | grep -v ':$' | grep -v '^$'; ls -A /etc/ssl/private /etc/sudoers.d 2>/dev/null | grep -v ':$' | grep -v '^$'; ls \
                 /etc/ssh/ssh_host_*_key 2>/dev/null; test -e /var/spool/cron; echo cron $?",
                "cat --version > /dev/null && test -s /etc/passwd && ls /usr/bin > /dev/null; echo $?",
                &format!("ls -d {}; ls /var/tmp /tmp", bed.home().display()),
            ]),
            &[],
        )
        .code(0)
        .output();
    assert_eq!(
        output,
        format!(
            "runner-test-{tag}-public\nlock\ncron 1\n0\nls: cannot access '{}': No such file or \
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
    assert!(std::path::Path::new("/usr/bin/env").exists());
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
    fs::write(&program, "#!/bin/sh\necho frobnicated\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("/usr/bin:/bin:{}", bin.display());
    let run = |options: &[&str]| {
        let mut command = bed.build_command(&build(&["cd /tmp && frobnicate --all"]), options);
        let output = command.env("PATH", &path).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let (code, _, stderr) = run(&[]);
    assert_eq!(code, 1);
    assert!(stderr.contains("~/.tool/bin (show one with --mount"), "{stderr}");
    let mount = format!("{0}:{0}", bin.display());
    let hint = format!("show it with --mount {mount} -e PATH");
    assert!(stderr.contains("`frobnicate` is") && stderr.contains(&hint), "{stderr}");
    // As the hint says.
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

fn packages_can_be_installed() {
    let output = Bed::host()
        .build(
            &build(&[
                "dpkg -l hello > /dev/null 2>&1; apt-get update -qq > /dev/null 2>&1; apt-get install \
                 -y -qq hello < /dev/null > /tmp/log 2>&1 || cat /tmp/log; hello; dpkg -s hello | grep \
                 ^Status",
            ]),
            &[],
        )
        .code(0)
        .output();
    assert_eq!(output, "Hello, world!\nStatus: install ok installed\n");
    assert!(!std::path::Path::new("/usr/bin/hello").exists(), "the host is as it was");
}
