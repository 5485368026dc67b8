//! Throughput of `runner port-forward`.

use super::bed::{Bed, OwnedProcess};
use super::{Contender, measure};
use crate::{ChoreResult, packages};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

/// Size of one stream in bytes.
const STREAM: usize = 256 << 20;
/// One stream in each direction, compared with socat.
pub(super) fn forward(bed: &Bed) -> ChoreResult {
    packages::install(&["socat"])?;
    let paused = bed.paused()?;
    let server = serve()?;
    let mut contenders = Vec::new();
    let mut children: Vec<OwnedProcess> = Vec::new();
    let mut ways = vec![("directly".to_owned(), server)];
    let (child, port) = runner(bed, server)?;
    children.push(child);
    ways.insert(0, ("through `runner port-forward`".to_owned(), port));
    if packages::has("socat") {
        let (child, port) = socat(server)?;
        children.push(child);
        ways.push(("through `socat TCP-LISTEN TCP`".to_owned(), port));
    } else {
        println!("socat is left out: not installed");
    }
    for (name, port) in ways {
        let down = move || stream(port, b'd').map_err(|error| error.to_string());
        contenders.push(Contender::new(format!("256 MiB out, {name}"), down));
        let up = move || stream(port, b'u').map_err(|error| error.to_string());
        contenders.push(Contender::new(format!("256 MiB in, {name}"), up));
    }
    // Measurements of the same direction are shown together.
    let (down, up): (Vec<_>, Vec<_>) =
        contenders.into_iter().partition(|contender| contender.name.contains("out,"));
    for (title, mut contenders) in
        [("A stream out of a build", down), ("A stream into a build", up)]
    {
        measure(title, 1, &mut contenders)?;
    }
    drop(children);
    drop(paused);
    Ok(())
}

/// The build shares this machine's loopback interface, so a server here is reachable there.
fn serve() -> ChoreResult<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    let port = listener.local_addr().map_err(|error| error.to_string())?.port();
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            std::thread::spawn(move || answer(connection));
        }
    });
    Ok(port)
}

fn answer(mut connection: TcpStream) -> std::io::Result<()> {
    let mut what = [0];
    connection.read_exact(&mut what)?;
    let mut buffer = vec![0; 256 << 10];
    if what == *b"d" {
        for _ in 0..STREAM / buffer.len() {
            connection.write_all(&buffer)?;
        }
        return Ok(());
    }
    while connection.read(&mut buffer)? > 0 {}
    connection.write_all(b".")
}

fn stream(port: u16, what: u8) -> std::io::Result<()> {
    let mut connection = TcpStream::connect(("127.0.0.1", port))?;
    let mut buffer = vec![0; 256 << 10];
    connection.write_all(&[what])?;
    if what == b'd' {
        let mut left = STREAM;
        while left > 0 {
            match connection.read(&mut buffer)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                got => left -= got,
            }
        }
        return Ok(());
    }
    for _ in 0..STREAM / buffer.len() {
        connection.write_all(&buffer)?;
    }
    connection.shutdown(std::net::Shutdown::Write)?;
    // The server has received everything.
    connection.read_exact(&mut buffer[..1])
}

fn runner(bed: &Bed, server: u16) -> ChoreResult<(OwnedProcess, u16)> {
    let mut command = bed.runner();
    command.args(["port-forward", &format!(":{server}")]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    let stdout = child.stdout.take().ok_or("no standard output")?;
    let child = OwnedProcess(child);
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).map_err(|error| error.to_string())?;
    let port = line.split(" -> ").next().and_then(|at| at.rsplit(':').next()?.parse().ok());
    Ok((child, port.ok_or(format!("no port in: {line}"))?))
}

fn socat(server: u16) -> ChoreResult<(OwnedProcess, u16)> {
    let mut child = Command::new("socat")
        .args(["-dd", "TCP-LISTEN:0,bind=127.0.0.1,fork,reuseaddr"])
        .arg(format!("TCP:127.0.0.1:{server}"))
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let stderr = child.stderr.take().ok_or("no standard error")?;
    let child = OwnedProcess(child);
    let mut lines = BufReader::new(stderr).lines();
    let line = lines
        .find(|line| line.as_ref().is_ok_and(|line| line.contains("listening on ")))
        .ok_or("socat does not listen")?
        .map_err(|error| error.to_string())?;
    // Further output is read, so that it never blocks.
    std::thread::spawn(move || lines.map_while(Result::ok).count());
    let port = line.rsplit(':').next().and_then(|port| port.trim().parse().ok());
    Ok((child, port.ok_or(format!("no port in: {line}"))?))
}
