//! The one program of the image: prints a greeting and its arguments.

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    println!("hello from an image without a shell {arguments:?}");
}
