//! The `mainstay` program. All of it is in the library beside this file.

/// A gateway allocates many small, short-lived things on several threads; measured on the overhead
/// benchmark, the system's allocator took a fifth of the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    mainstay::command_line::main()
}
