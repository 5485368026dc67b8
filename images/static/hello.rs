//! The one program of the image: says where it is, and what it was given.

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    println!("hello from an image without a shell {arguments:?}");
}
