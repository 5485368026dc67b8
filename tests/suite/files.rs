//! The program that reads and writes files in a container, used over `runner exec`: available in
//! every image and engine, with the rights of the container's root.

use crate::common::{Bed, Running, build, cases};
use runner_wire::files::{Replies, Reply, root_request, select, select_request, sync_request};
use std::io::Write;
use std::process::Stdio;

cases! {
    [] => in_engine_process;
    [Containers, Image("busybox")] => in_a_container;
    [Root, Image("busybox")] => in_an_image_without_programs;
    [Users, Image("busybox")] => files_of_other_users;
}

const PROGRAM: &str = "/codebuild/readonly/bin/runner-files";

/// Paths and contents below a directory, as reported by the program.
#[track_caller]
fn tell(bed: &Bed, program: &str, root: &str) -> Vec<(String, Vec<u8>)> {
    let mut request = Vec::new();
    root_request(&mut request, 0, root.as_bytes());
    select_request(&mut request, select::RECURSIVE | select::CONTENT, b"");
    sync_request(&mut request);
    let mut command = bed.command(["exec", "--", program]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&request).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let (mut replies, mut told) = (Replies::default(), Vec::new());
    let (mut rest, mut is_done) = (output.stdout.as_slice(), false);
    while !rest.is_empty() {
        let count = replies.space().len().min(rest.len());
        replies.space()[..count].copy_from_slice(&rest[..count]);
        replies.filled(count);
        rest = &rest[count..];
        while let Some(reply) = replies.next_reply().unwrap() {
            match reply {
                Reply::Entry(entry) => {
                    let owner = if entry.facts.uid == 0 { "" } else { "other:" };
                    let path = String::from_utf8_lossy(entry.path);
                    told.push((format!("{owner}{path}"), Vec::new()));
                }
                Reply::Data(bytes) => told.last_mut().unwrap().1.extend_from_slice(bytes),
                Reply::Sync => is_done = true,
                Reply::Failed(failed) => panic!("{failed:?}"),
                Reply::Root(_) | Reply::Hole(_) | Reply::End(_) => {}
            }
        }
    }
    assert!(is_done);
    told
}

fn paused(bed: &Bed, command: &str) -> Running {
    bed.paused(&build(&[command, "codebuild-breakpoint"]), &[])
}

fn in_a_container() {
    let bed = Bed::new();
    let command = "mkdir /tmp/t; cd /tmp/t; echo one > a; chmod 0 a; mkfifo f; ln -s a l";
    let running = paused(&bed, command);
    let told = tell(&bed, PROGRAM, "/tmp/t");
    let wanted: [(&str, &[u8]); 3] = [("a", b"one\n"), ("f", b""), ("l", b"")];
    assert_eq!(told, wanted.map(|(path, text)| (path.to_owned(), text.to_vec())));
    // The kernel's own files are skipped, so the listing ends.
    let all = tell(&bed, PROGRAM, "/");
    // Without root, files of the machine's root have another owner.
    let paths: Vec<&str> = all.iter().map(|(path, _)| path.trim_start_matches("other:")).collect();
    assert!(paths.contains(&"proc") && paths.contains(&"bin/busybox"));
    assert!(!paths.iter().any(|path| path.starts_with("proc/") || path.starts_with("sys/")));
    bed.resume(running);
}

fn files_of_other_users() {
    let bed = Bed::new();
    let command = "mkdir -m 777 /tmp/t; umask 77; echo one > /tmp/t/a; chown -R builder /tmp/t";
    let running = paused(&bed, command);
    assert_eq!(tell(&bed, PROGRAM, "/tmp/t"), [("other:a".to_owned(), b"one\n".to_vec())]);
    bed.resume(running);
}

/// The waiting shell has made sure that only our own programs can be started.
fn in_an_image_without_programs() {
    let bed = Bed::new();
    let command =
        "mkdir /tmp/t; echo x > /tmp/t/a; rm -rf /bin /sbin /usr /lib; codebuild-breakpoint";
    let running = bed.paused(&build(&[command]), &[]);
    bed.runner(["exec", "--", "/bin/busybox"]).code(127);
    assert_eq!(tell(&bed, PROGRAM, "/tmp/t"), [("a".to_owned(), b"x\n".to_vec())]);
    bed.resume(running);
}

fn in_engine_process() {
    let bed = Bed::new();
    let running = {
        bed.write("src.txt", "text");
        bed.write("buildspec.yml", build(&["codebuild-breakpoint"]));
        let mut command = bed.command(["run", "--project", "demo", "--engine", "process"]);
        let running = Running::spawn_from(command.arg("--enable-session"));
        running.stderr.wait_for("stop ");
        running
    };
    let source = bed.runner(["exec", "--", "sh", "-c", "echo $CODEBUILD_SRC_DIR"]).code(0).stdout;
    let layer = format!("/var/tmp/runner-{}", bed.live().file_name().unwrap().to_str().unwrap());
    let program = format!("{layer}/codebuild/readonly/bin/runner-files");
    let told = tell(&bed, &program, source.trim());
    assert!(
        told.iter().any(|(path, text)| path.ends_with("src.txt") && text == b"text"),
        "{told:?}"
    );
    bed.resume(running);
}
