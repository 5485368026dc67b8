//! ZIPs read back by Python's zipfile and by unzip.

use super::*;
use std::path::Path;
use std::process::Command;

fn member(name: &[u8], mode: u32, size: u64) -> ZipMember {
    // 2001-09-09 01:46:40
    ZipMember { name: name.to_vec(), mode, modified: 1_000_000_000, size }
}

fn write(path: &Path, files: &[(ZipMember, Vec<u8>)]) {
    let mut zip = ZipWriter::new(std::fs::File::create(path).expect("made")).expect("threads");
    for (member, bytes) in files {
        zip.begin(member.clone()).expect("begun");
        for chunk in bytes.chunks(100_000) {
            zip.write(chunk).expect("written");
        }
        zip.end().expect("ended");
    }
    zip.finish().expect("finished");
}

fn python(script: &str, path: &Path) -> String {
    let output = Command::new("python3").arg("-c").arg(script).arg(path).output().expect("python3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Incompressible bytes, always the same.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .flatten()
    .take(length)
    .collect()
}

#[test]
fn others_read_what_was_written() {
    let bed = tempfile::tempdir().expect("a directory");
    let path = bed.path().join("a.zip");
    let text = b"all work and no play\n".repeat(200_000);
    let mut mixed = noise(BLOCK + 17);
    mixed.extend_from_slice(&vec![0; 3 * BLOCK]);
    mixed.extend_from_slice(&text);
    let files = [
        (member(b"empty", 0o100_644, 0), Vec::new()),
        (member(b"dir/small.txt", 0o100_755, 6), b"hello\n".to_vec()),
        (member(b"noise", 0o100_600, 70_000), noise(70_000)),
        (member(b"text", 0o100_644, text.len() as u64), text),
        (member(b"mixed", 0o100_644, mixed.len() as u64), mixed),
        (member(b"block", 0o100_644, BLOCK as u64), noise(BLOCK)),
        (member(b"link", 0o120_777, 5), b"empty".to_vec()),
        (member("h\u{e4}h\n".as_bytes(), 0o100_644, 1), b"u".to_vec()),
        (member(b"raw\xff", 0o100_644, 1), b"r".to_vec()),
    ];
    write(&path, &files);
    let script = "import zipfile, sys, hashlib
z = zipfile.ZipFile(sys.argv[1])
assert z.testzip() is None
for i in z.infolist():
    assert i.date_time == (2001, 9, 9, 1, 46, 40), i
    print(ascii(i.filename), oct(i.external_attr >> 16), i.file_size, hashlib.md5(z.read(i)).hexdigest())
";
    let digest = |bytes: &[u8]| {
        use md5::Digest;
        md5::Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let names = [
        "'empty'",
        "'dir/small.txt'",
        "'noise'",
        "'text'",
        "'mixed'",
        "'block'",
        "'link'",
        "'h\\xe4h\\n'",
        "'raw\\xa0'",
    ];
    let wanted: String = files
        .iter()
        .zip(names)
        .map(|((member, bytes), name)| {
            format!("{name} 0o{:o} {} {}\n", member.mode, bytes.len(), digest(bytes))
        })
        .collect();
    assert_eq!(python(script, &path), wanted);
    assert!(std::fs::metadata(&path).expect("there").len() < 2_700_000, "nothing shrank");
    let unzip = Command::new("unzip").args(["-tqq"]).arg(&path).output().expect("unzip");
    assert!(unzip.status.success(), "{unzip:?}");
}

/// More files than a ZIP without extensions can count.
#[test]
fn two_hundred_thousand_files() {
    let bed = tempfile::tempdir().expect("a directory");
    let path = bed.path().join("a.zip");
    let files: Vec<_> = (0..200_000)
        .map(|n| (member(format!("d{}/f{n}", n % 100).as_bytes(), 0o100_644, 3), b"abc".to_vec()))
        .collect();
    write(&path, &files);
    let script = "import zipfile, sys
z = zipfile.ZipFile(sys.argv[1])
print(len(z.namelist()), z.read('d99/f199999'))
";
    assert_eq!(python(script, &path), "200000 b'abc'\n");
    let unzip = Command::new("unzip").args(["-p"]).arg(&path).arg("d0/f0").output().expect("unzip");
    assert_eq!(unzip.stdout, b"abc", "{unzip:?}");
}

/// Sizes beyond 32 bits, stored after the data because it does not fit into memory.
#[test]
fn five_gigabytes() {
    struct Sparse(Vec<u8>, u64);
    // The ZIP itself would be large: everything but headers and directory is discarded.
    impl Write for Sparse {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if bytes.len() < 4096 {
                self.0.extend_from_slice(bytes);
            }
            self.1 += bytes.len() as u64;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let size = 5_u64 << 30;
    let mut zip = ZipWriter::new(Sparse(Vec::new(), 0)).expect("threads");
    zip.begin(member(b"large", 0o100_644, size)).expect("begun");
    let chunk = vec![0; BLOCK];
    zip.write(&noise(40 << 20)).expect("written");
    for _ in 0..(5 << 10) - 40 {
        zip.write(&chunk).expect("written");
    }
    zip.end().expect("ended");
    let Sparse(kept, total) = zip.finish().expect("finished");
    assert!(total < 100 << 20, "{total}");
    // The data descriptor, with its 8-byte sizes.
    let at = kept.windows(4).position(|w| w == b"PK\x07\x08").expect("sizes follow");
    let length = u64::from_le_bytes(kept[at + 16..at + 24].try_into().expect("eight bytes"));
    assert_eq!(length, size);
    let at = kept.windows(4).position(|w| w == b"PK\x01\x02").expect("a directory");
    assert!(kept[at..].windows(8).any(|w| w == size.to_le_bytes()), "no size in the directory");
}
