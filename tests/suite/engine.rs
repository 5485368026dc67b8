//! The container: what a build can and cannot see, do and leave behind.

use crate::common::{Bed, build, cases, is_root};
use std::fs;

cases! {
    [Containers, Image("busybox")] => exit_codes_are_exact, nothing_of_the_runner_is_inherited,
        orphans_are_reaped, processes_in_other_sessions_end_with_the_build, pid_1_cannot_be_read_or_killed, kernel_files_are_masked,
        mounts_are_private, the_source_is_never_written, mounts_of_the_user, a_32_bit_program_runs,
        an_environment_of_a_megabyte, namespaces_cannot_be_made, signals_are_default,
        limits_of_the_caller_stay;
    [Users, Image("busybox")] => root_is_confined;
}

fn exit_codes_are_exact() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    for code in [0, 1, 2, 7, 41, 124, 125, 126, 127, 128, 129, 200, 254, 255] {
        bed.runner(["exec", "--", "sh", "-c", &format!("exit {code}")]).code(code);
    }
    // busybox's shell ignores SIGQUIT by itself.
    for signal in [1, 2, 6, 9, 11, 13, 14, 15] {
        bed.runner(["exec", "--", "sh", "-c", &format!("kill -{signal} $$")]).code(128 + signal);
    }
    bed.runner(["exec", "--", "nosuch"]).code(127);
    bed.runner(["exec", "--", "/nosuch/program"]).code(127);
    bed.runner(["exec", "--", "/etc/passwd"]).code(126);
    bed.runner(["exec", "--", "/tmp"]).code(126);
    bed.runner(["resume"]).code(0);
    running.ends(0);
}

/// No descriptor of the runner, or of its parent, reaches a command.
fn nothing_of_the_runner_is_inherited() {
    let bed = Bed::new();
    bed.write("buildspec.yml", build(&["ls -l /proc/$$/fd"]));
    let secret = bed.path("secret");
    fs::write(&secret, "").unwrap();
    let image = format!("rootfs:{}", crate::common::image("busybox").display());
    let script = format!(
        "exec 7<{} 251<{0}; exec {} run --image {image}",
        secret.display(),
        crate::common::runner().display()
    );
    let output = bed.other("bash").args(["-c", &script]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // `... NUMBER -> TARGET`, as ls shows links.
    let fds = text.lines().filter(|line| line.contains(" -> ") && !line.starts_with('['));
    let mut fds: Vec<&str> = fds
        .map(|line| {
            let number = line[..line.find(" -> ").unwrap()].rfind(' ').unwrap() + 1;
            line[number..].split('[').next().unwrap()
        })
        .collect();
    fds.sort_unstable();
    // The last one is the script that the shell reads.
    let wanted =
        ["0 -> /dev/null", "1 -> pipe:", "10 -> /codebuild/output/tmp/script.sh", "2 -> pipe:"];
    assert_eq!(fds, wanted, "{text}");
}

fn orphans_are_reaped() {
    let output = Bed::new()
        .build(
            &build(&[
                "for i in $(seq 50); do (true &) ; (sh -c 'sleep 0.01 &') ; done",
                // The last one may have ended just now; an unreaped process would stay.
                "while pidof sleep > /dev/null || cat /proc/[0-9]*/status 2> /dev/null | grep -q \
                 '^State:.Z'; do :; done; echo reaped",
            ]),
            &[],
        )
        .code(0)
        .output();
    assert_eq!(output, "reaped\n");
}

fn processes_in_other_sessions_end_with_the_build() {
    let bed = Bed::new();
    // A unique process name, so that the host can be searched for it.
    let name = format!("leftover-{}", std::process::id());
    let commands = format!(
        "cp /bin/busybox /tmp/{name}; setsid /tmp/{name} sleep 1000 & (/tmp/{name} sleep 1000 &)"
    );
    bed.build(&build(&[&commands, "nohup sleep 1000 > /dev/null 2>&1 & echo on"]), &[]).code(0);
    let left: Vec<_> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read(entry.unwrap().path().join("cmdline")).ok())
        .filter(|line| String::from_utf8_lossy(line).contains(&name))
        .collect();
    assert_eq!(left, [[0_u8; 0]; 0]);
}

fn root_is_confined() {
    let output = Bed::new()
        .build(
            &build(&[
                "grep -E 'Cap|NoNewPrivs|Seccomp:' /proc/self/status",
                "mknod /tmp/loop b 7 0 2>&1; mknod /codebuild/null c 1 3 2>&1; mount -t tmpfs x /mnt \
                 2>&1; chown 5:5 /tmp; su builder -c id",
            ]),
            &[],
        )
        .code(0)
        .output();
    assert_eq!(
        output,
        "CapInh:\t0000000000000000\nCapPrm:\t00000000800405fb\nCapEff:\t00000000800405fb\n\
         CapBnd:\t00000000800405fb\nCapAmb:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t2\n\
         mknod: /tmp/loop: Operation not permitted\nmknod: /codebuild/null: Operation not \
         permitted\nmount: permission denied (are you root?)\n\
         uid=1000(builder) gid=1000(builder) groups=1000(builder),2000(extra)\n"
    );
}

fn pid_1_cannot_be_read_or_killed() {
    let output = Bed::new()
        .build(
            &build(&[
                "for f in exe environ fd/3 mem maps root/etc; do ls /proc/1/$f/ > /dev/null 2>&1 || cat \
                 /proc/1/$f > /dev/null 2>&1 || echo no $f; done",
                "readlink /proc/1/exe || echo no link; kill -9 1; kill -TERM 1; echo alive; cat \
                 /proc/1/comm",
            ]),
            &[],
        )
        .code(0)
        .output();
    assert_eq!(
        output,
        "no exe\nno environ\nno fd/3\nno mem\nno maps\nno root/etc\nno link\nalive\nrunner-init\n"
    );
}

fn kernel_files_are_masked() {
    let output = Bed::new()
        .build(
            &build(&[
                "for f in keys timer_list kcore latency_stats interrupts kpagecgroup kpagecount kpageflags \
                 pagetypeinfo sched_debug slabinfo timer_stats vmallocinfo; do test ! -e /proc/$f || test $(wc -c < \
                 /proc/$f) = 0 || echo $f; done; ls -A /sys/firmware /proc/acpi /proc/asound /proc/scsi \
                 /sys/devices/virtual/powercap /sys/devices/system/cpu/cpu*/thermal_throttle 2> /dev/null | grep -v \
                 ':$' | grep -v '^$'; true",
                "for f in /proc/sys/kernel/panic /proc/sysrq-trigger /proc/irq/default_smp_affinity \
                 /sys/kernel/profiling /sys/fs/cgroup/x; do echo 1 > $f && echo wrote $f; done 2>&1 | grep \
                 -v -e 'Read-only file system' -e nonexistent; true",
                "for n in null zero full random urandom tty; do test -c /dev/$n || echo no $n; done; ls \
                 /dev | tr '\\n' ' '; stat -c '%a' /dev/null /dev/shm",
            ]),
            &[],
        )
        .code(0)
        .output();
    assert_eq!(
        output,
        "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero 666\n1777\n"
    );
}

/// Mounts in the container never appear on the host, and vice versa.
fn mounts_are_private() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let during = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let own = bed.path("");
    assert!(!during.contains(own.to_str().unwrap()), "{during}");
    let inside = bed.runner(["exec", "--", "cat", "/proc/self/mountinfo"]).code(0).stdout;
    assert!(!inside.contains("/sandboxing") && inside.contains(" / / "), "{inside}");
    bed.runner(["resume"]).code(0);
    running.ends(0);
}

fn the_source_is_never_written() {
    let bed = Bed::new();
    bed.write("kept", "as it was\n");
    bed.write("dir/gone", "still here\n");
    // Owned by someone else, as a source under sudo is.
    for name in ["", "kept", "dir", "dir/gone"].iter().filter(|_| is_root()) {
        std::os::unix::fs::chown(bed.source().join(name), Some(1234), Some(4321)).unwrap();
    }
    let commands = [
        "stat -c '%u:%g' . kept dir dir/gone",
        "echo changed > kept; rm -r dir; echo new > new; chmod 600 kept; stat -c '%u:%g' new; ls",
    ];
    let output = bed.build(&build(&commands), &[]).code(0).output();
    assert_eq!(output, "0:0\n0:0\n0:0\n0:0\n0:0\nbuildspec.yml\nkept\nnew\n");
    assert_eq!(fs::read_to_string(bed.source().join("kept")).unwrap(), "as it was\n");
    assert!(bed.source().join("dir/gone").is_file());
    assert!(!bed.source().join("new").exists());
}

fn mounts_of_the_user() {
    let bed = Bed::new();
    let shared = bed.path("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("file"), "from the host\n").unwrap();
    let read = format!("{}:/mnt/read", shared.display());
    let write = format!("{}:/mnt/write:rw", shared.display());
    let file = format!("{}:/etc/one-file", shared.join("file").display());
    let options = ["--mount", &read, "--mount", &write, "--mount", &file];
    let commands = [
        "cat /mnt/read/file /etc/one-file; echo x 2>&1 > /mnt/read/new || true",
        "echo from the build > /mnt/write/new; cat /mnt/read/new",
    ];
    let output = bed.build(&build(&commands), &options).code(0).output();
    assert!(output.starts_with("from the host\nfrom the host\n"), "{output}");
    assert!(output.contains("Read-only file system"), "{output}");
    assert!(output.ends_with("from the build\n"), "{output}");
    assert_eq!(fs::read_to_string(shared.join("new")).unwrap(), "from the build\n");
}

/// The smallest 32-bit program: it exits with 42 through the old system call gate.
fn a_32_bit_program_runs() {
    let code: [u8; 9] = [0xb3, 42, 0x31, 0xc0, 0x40, 0xcd, 0x80, 0x90, 0x90];
    let mut elf = vec![0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let word = |elf: &mut Vec<u8>, value: u32| elf.extend(value.to_le_bytes());
    elf.extend([2, 0, 3, 0]);
    for value in [1, 0x0804_8054, 52, 0, 0] {
        word(&mut elf, value);
    }
    elf.extend([52, 0, 32, 0, 1, 0, 40, 0, 0, 0, 0, 0]);
    let length = 0x54 + u32::try_from(code.len()).unwrap();
    for value in [1, 0, 0x0804_8000, 0x0804_8000, length, length, 5, 0x1000] {
        word(&mut elf, value);
    }
    elf.extend(code);
    let bed = Bed::new();
    use std::os::unix::fs::PermissionsExt;
    let program = bed.write("old", elf);
    fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
    bed.build(&build(&["./old; test $? -eq 42"]), &[]).code(0);
}

fn an_environment_of_a_megabyte() {
    let bed = Bed::new();
    let commands = [
        "i=0; v=$(head -c 100000 /dev/zero | tr '\\0' x); while [ $i -lt 12 ]; do export V$i=$v; \
         i=$((i+1)); done; unset v",
        "env | wc -c | awk '{ print ($1 > 1200000) }'; codebuild-breakpoint",
    ];
    let running = bed.paused(&build(&commands), &[]);
    // A session gets the whole value, too.
    let seen = bed.runner(["exec", "--", "sh", "-c", "echo ${#V11}"]).code(0).stdout;
    assert_eq!(seen, "100000\n");
    bed.runner(["resume"]).code(0);
    running.ends(0);
}

fn namespaces_cannot_be_made() {
    let output = Bed::new()
        .build(
            &build(&["for n in -U -m -n -p -i -u; do unshare $n true 2>&1 | tail -n1; done"]),
            &[],
        )
        .code(0)
        .output();
    assert_eq!(output.matches("Operation not permitted").count(), 6, "{output}");
}

fn signals_are_default() {
    let output = Bed::new()
        .build(
            &build(&[
                "grep -E 'SigBlk|SigIgn|SigCgt' /proc/self/status",
                "yes | head -n1; ulimit -c",
            ]),
            &[],
        )
        .code(0)
        .output();
    assert!(
        output.starts_with(
            "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nSigCgt:\t0000000000000000\ny\n"
        ),
        "{output}"
    );
}

fn limits_of_the_caller_stay() {
    let bed = Bed::new();
    bed.write("buildspec.yml", build(&["ulimit -n"]));
    let image = format!("rootfs:{}", crate::common::image("busybox").display());
    let script =
        format!("ulimit -n 777; exec {} run --image {image}", crate::common::runner().display());
    let output = bed.other("bash").args(["-c", &script]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("\n777\n"), "{text}");
}
