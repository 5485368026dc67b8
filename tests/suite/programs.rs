//! Real programs that must work in the sandbox: debuggers, compilers, runtimes, databases.
//!
//! Each runs in the image `host` as a build would run it, with and without root. A few always; all
//! of them with `cargo xtask test --extended`, which installs them.

use crate::common::{Bed, build, cases, is_root};

cases! {
    [Containers, Program("gdb"), Program("gcc")] => gdb;
    [Containers, Program("strace")] => strace;
    [Containers, Gcc32] => programs_of_32_bits;
    [Containers, Program("python3")] => python_and_its_processes;
    [Containers, Program("fakeroot")] => fakeroot;
    [Extended, Containers, Program("git"), Program("make"), Program("gcc")] => git_and_make;
    [Extended, Containers, Program("java"), Program("javac")] => java;
    [Extended, Containers, Program("node")] => node;
    [Extended, Containers, Program("go")] => go;
    [Extended, Containers, Program("/usr/bin/cargo"), Program("gcc")] => cargo;
    [Extended, Containers, Program("rpm"), Program("rpmbuild")] => rpm;
    [Extended, Containers, Program("chromium")] => chromium;
    [Extended, Users, Program("pg_lsclusters")] => postgres;
    [Extended, Containers, Program("valgrind"), Program("gcc")] => valgrind;
    [Extended, Containers, Program("perf")] => perf_is_refused_with_a_word;
    [Extended, Containers, Program("rsync")] => rsync;
    [Extended, Containers, Program("sqlite3")] => sqlite;
    [Extended, Containers, Program("openssl"), Program("socat")] => openssl;
    [Extended, Containers, Program("perl")] => perl;
    [Extended, Containers, Program("tmux")] => tmux;
}

/// Runs a script, in its own file, in the image `host`. Returns its output.
fn output(script: &str, files: &[(&str, &str)]) -> String {
    let bed = Bed::host();
    for (name, text) in files {
        bed.write(name, text);
    }
    bed.write("script.sh", format!("set -e\n{script}\n"));
    bed.build(&build(&["sh script.sh"]), &["--network", "none"]).code(0).output()
}

#[track_caller]
fn prints(script: &str, files: &[(&str, &str)], wanted: &str) {
    let output = output(script, files);
    assert!(output.contains(wanted), "not {wanted:?} but:\n{output}");
}

const COUNTED: &str = "#include <stdio.h>\nint twice(int x) { return 2 * x; }\n\
                       int main(void) { printf(\"%d\\n\", twice(21)); return 0; }\n";

fn gdb() {
    let script = "gcc -g -O0 -o p p.c\n\
                  gdb -q -nx -batch -ex 'break twice' -ex run -ex backtrace -ex 'print x' -ex continue ./p 2>&1";
    let output = output(script, &[("p.c", COUNTED)]);
    for wanted in ["twice (x=21)", "in main ()", "$1 = 21", "exited normally"] {
        assert!(output.contains(wanted), "not {wanted:?} but:\n{output}");
    }
}

fn strace() {
    let script = "strace -f -e trace=execve -o calls sh -c 'true; ls / > /dev/null; echo done'\n\
                  grep -c 'execve.* = 0' calls";
    prints(script, &[], "done\n2\n");
}

/// Uses the C library's sockets, which need socketcall(2), threads, and large files.
fn programs_of_32_bits() {
    let source = include_str!("../guards/old.c");
    prints("gcc -m32 -pthread -O1 -w -o old old.c\n./old", &[("old.c", source)], "all well\n");
}

fn python_and_its_processes() {
    let program = "import multiprocessing as m, os, signal, socket, subprocess, threading\n\
                   from multiprocessing import shared_memory\n\
                   def work(n):\n    return n * n\n\
                   def add(total, lock):\n    for _ in range(100):\n        with lock:\n            total.value += 1\n\
                   if __name__ == '__main__':\n    \
                   with m.Pool(4) as pool: print(sum(pool.map(work, range(10))))\n    \
                   total, lock = m.Value('i', 0), m.Lock()\n    \
                   all = [m.Process(target=add, args=(total, lock)) for _ in range(4)]\n    \
                   [p.start() for p in all]; [p.join() for p in all]; print(total.value)\n    \
                   memory = shared_memory.SharedMemory(create=True, size=64); memory.unlink()\n    \
                   semaphore = m.Semaphore(2); semaphore.acquire(); semaphore.release()\n    \
                   one, other = socket.socketpair(); one.send(b'x'); print(other.recv(1))\n    \
                   print(len(os.sched_getaffinity(0)) > 0, subprocess.run(['true']).returncode)\n";
    prints("python3 p.py", &[("p.py", program)], "285\n400\nb'x'\nTrue 0\n");
}

fn fakeroot() {
    let script =
        "fakeroot sh -c 'touch f; chown 12:34 f; mknod d c 1 3; stat -c %u:%g f; stat -c %F d'";
    prints(script, &[], "12:34\ncharacter special file\n");
}

fn git_and_make() {
    let makefile = "all: a b c d e f g h\n%: %.c\n\t$(CC) -O1 -o $@ $<\n";
    let names = ["a.c", "b.c", "c.c", "d.c", "e.c", "f.c", "g.c", "h.c"];
    let mut files: Vec<(&str, &str)> = names.map(|name| (name, COUNTED)).into();
    files.push(("Makefile", makefile));
    let script = "make -s -j4; for p in a b c d e f g h; do ./$p; done | sort -u\n\
                  export HOME=/tmp GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t\n\
                  git init -q /tmp/r; cp *.c /tmp/r; cd /tmp/r; git add .; git commit -q -m one; git gc -q\n\
                  git clone -q --no-local /tmp/r /tmp/c; git -C /tmp/c fsck 2>&1; git -C /tmp/c log --format=%s";
    prints(script, &files, "42\n");
    prints(script, &files, "one\n");
}

fn java() {
    let program = "import java.net.*; import java.util.stream.*;\n\
                   class P { public static void main(String[] a) throws Exception {\n\
                   System.out.println(IntStream.range(0, 1000).parallel().sum());\n\
                   var s = new ServerSocket(0); var c = new Socket(\"127.0.0.1\", s.getLocalPort());\n\
                   s.accept().getOutputStream().write(7); System.out.println(c.getInputStream().read());\n\
                   System.out.println(new ProcessBuilder(\"true\").start().waitFor()); } }\n";
    prints("javac P.java; java -cp . P", &[("P.java", program)], "499500\n7\n0\n");
}

fn node() {
    let program = "const { Worker, isMainThread, parentPort } = require('worker_threads');\n\
                   if (isMainThread) {\n  new Worker(__filename).on('message', (m) => {\n    \
                   const s = require('http').createServer((q, r) => r.end(m)).listen(0, '127.0.0.1', async () => {\n      \
                   const r = await fetch('http://127.0.0.1:' + s.address().port);\n      \
                   console.log(await r.text()); s.close();\n      \
                   console.log(require('child_process').execSync('echo child').toString().trim());\n    });\n  });\n\
                   } else parentPort.postMessage('from a worker');\n";
    prints("node p.js", &[("p.js", program)], "from a worker\nchild\n");
}

fn go() {
    let program = "package main\nimport (\"fmt\"; \"io\"; \"net\"; \"os/exec\"; \"sync\")\n\
                   func main() {\n\tl, err := net.Listen(\"tcp\", \"127.0.0.1:0\")\n\tif err != nil { panic(err) }\n\
                   \tgo func() { c, _ := l.Accept(); c.Write([]byte(\"hello\")); c.Close() }()\n\
                   \tc, err := net.Dial(\"tcp\", l.Addr().String())\n\tif err != nil { panic(err) }\n\
                   \tb, _ := io.ReadAll(c)\n\tvar w sync.WaitGroup\n\
                   \tfor i := 0; i < 100; i++ { w.Add(1); go w.Done() }\n\tw.Wait()\n\
                   \tout, err := exec.Command(\"echo\", \"child\").Output()\n\tfmt.Print(string(b), \" \", string(out), err)\n}\n";
    let environment = "export HOME=/tmp GOCACHE=/tmp/go GOFLAGS=-mod=mod GO111MODULE=off";
    prints(&format!("{environment}\ngo run p.go"), &[("p.go", program)], "hello child\n<nil>");
    // The other way to create sockets.
    let old = format!("{environment}\nGOARCH=386 go build -o old p.go && ./old");
    prints(&old, &[("p.go", program)], "hello child\n<nil>");
}

fn cargo() {
    let manifest = "[package]\nname = \"p\"\nversion = \"0.1.0\"\nedition = \"2021\"\n";
    let program = "fn main() { println!(\"{}\", (0..10).sum::<u32>()); }\n\
                   #[test]\nfn it_works() { std::thread::spawn(|| ()).join().unwrap(); }\n";
    let script = "export HOME=/tmp CARGO_HOME=/tmp/cargo\n\
                  /usr/bin/cargo run -q --offline 2>&1; /usr/bin/cargo test -q --offline 2>&1";
    let output = output(script, &[("Cargo.toml", manifest), ("src/main.rs", program)]);
    assert!(output.contains("45\n") && output.contains("1 passed"), "{output}");
}

fn rpm() {
    let spec = "Name: p\nVersion: 1\nRelease: 1\nSummary: a test\nLicense: MIT\nBuildArch: noarch\n%description\nNone.\n\
                %install\nmkdir -p %{buildroot}/opt/p; echo packed > %{buildroot}/opt/p/file\n%files\n/opt/p/file\n";
    let script = "export HOME=/tmp\nrpmbuild --quiet --define '_topdir /tmp/rpm' -bb p.spec 2>&1\n\
                  rpm -qp --list /tmp/rpm/RPMS/noarch/p-1-1.noarch.rpm 2> /dev/null";
    prints(script, &[("p.spec", spec)], "/opt/p/file\n");
}

fn chromium() {
    let script = "export HOME=/tmp\nchromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage \
                  --user-data-dir=/tmp/profile --dump-dom 'data:text/html,<p>hello</p><script>document.body.append(6*7)</script>' \
                  2> /tmp/errors || { cat /tmp/errors; exit 1; }";
    prints(script, &[], "<p>hello</p><script>document.body.append(6*7)</script>42");
}

fn postgres() {
    let script = "mkdir /tmp/pg; chown postgres: /tmp/pg; cat > /tmp/pg.sh <<'END'\nset -e; cd /tmp/pg\n\
                  initdb -D data > log; pg_ctl -D data -l server -o \"-k /tmp/pg -h ''\" -w start > log\n\
                  psql -h /tmp/pg -d postgres -Atc 'create table t as select generate_series(1, 1000) n; \
                  select sum(n) from t; set max_parallel_workers_per_gather = 2; select count(*) from t'\n\
                  pg_ctl -D data -m fast -w stop > log; echo stopped\nEND\n\
                  setpriv --reuid postgres --regid postgres --clear-groups env PATH=\"$PG:$PATH\" sh /tmp/pg.sh";
    let script = format!("PG=$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)\n{script}");
    prints(&script, &[], "500500\n");
    prints(&script, &[], "stopped\n");
}

fn valgrind() {
    let program = "#include <stdlib.h>\nint main(void) { char *p = malloc(10); int x = p[0] == 42; free(p); return x; }\n";
    let script =
        "gcc -g -O0 -o p p.c; valgrind --leak-check=full ./p 2>&1 | sed 's/^==[0-9]*== //'";
    let output = output(script, &[("p.c", program)]);
    assert!(output.contains("ERROR SUMMARY: 1 errors"), "{output}");
}

/// It counts events of the whole machine: it reports an error instead of being killed.
fn perf_is_refused_with_a_word() {
    let output = output("perf stat true 2>&1 || echo refused: $?", &[]);
    assert!(output.contains("refused: "), "{output}");
    let said = output.to_lowercase();
    let words = ["permi", "access", "not supported", "no permission"];
    assert!(words.iter().any(|word| said.contains(word)), "{output}");
}

fn rsync() {
    let script = "mkdir -p a/b; echo one > a/b/f; ln a/b/f a/g; ln -s b/f a/l; mkfifo a/p\n\
                  rsync -aHAX a/ /tmp/z; rsync -aHAX --delete --itemize-changes a/ /tmp/z; stat -c %h /tmp/z/g; readlink /tmp/z/l";
    let (has_attributes, plain) = (is_root(), script.replace("-aHAX", "-aH"));
    prints(if has_attributes { script } else { &plain }, &[], "2\nb/f\n");
}

fn sqlite() {
    let script = "db=/tmp/x.db; sqlite3 $db 'pragma journal_mode=wal; create table t(n)'\n\
                  for i in 1 2 3 4; do sqlite3 -cmd '.timeout 60000' $db \"with recursive c(n) as (select 1 union all \
                  select n+1 from c where n<500) insert into t select n from c\" & done; wait\n\
                  sqlite3 $db 'select count(*) from t; pragma integrity_check'";
    prints(script, &[], "2000\nok\n");
}

fn openssl() {
    let script = "cd /tmp; openssl req -x509 -newkey rsa:2048 -nodes -keyout k -out c -subj /CN=localhost 2> /dev/null\n\
                  cat k c > both; socat -d -d openssl-listen:0,cert=both,verify=0,fork system:'echo hello' 2> log & p=$!\n\
                  until port=$(grep -o 'listening on .*:[0-9]*' log | grep -o '[0-9]*$') && test -n \"$port\"; do :; done\n\
                  socat -u openssl:127.0.0.1:$port,verify=0 -; kill $p; openssl speed -seconds 1 -evp sha256 2> /dev/null | grep -c sha256";
    prints(script, &[], "hello\n");
}

fn perl() {
    let script = "perl -MSocket -MPOSIX -e 'pipe(R, W); if (!fork) { print W getppid() > 0 ? \"child\\n\" : \"\"; exit } wait; \
                  print scalar <R>; socketpair(A, B, AF_UNIX, SOCK_STREAM, 0) or die; print \"pair\\n\"'";
    prints(script, &[], "child\npair\n");
}

fn tmux() {
    let script = "export HOME=/tmp TMUX_TMPDIR=/tmp TERM=xterm LC_ALL=C.UTF-8\n\
                  tmux -f /dev/null new-session -d -s x 'echo in the window > /tmp/w; exec sleep 1000'\n\
                  until test -s /tmp/w; do :; done; cat /tmp/w; tmux kill-server";
    prints(script, &[], "in the window\n");
}
