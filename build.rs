//! How the program is linked.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // At a fixed address: the pointers in its tables need no relocation then. As a PIE each start,
    // of which a build has two, would write to a hundred pages first (docs/adr/0018).
    println!("cargo::rustc-link-arg-bins=-no-pie");
}
