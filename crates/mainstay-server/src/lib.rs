//! Acts: sockets, clocks, files and tasks around the machines of `mainstay-core`.

pub mod gateway;
pub mod setup;

/// Serves until `shutdown` is done, then lets running answers finish.
///
/// # Errors
/// When a listener cannot be used.
pub async fn run(
    _setup: setup::Setup,
    _listeners: setup::Listeners,
    shutdown: impl std::future::Future<Output = ()>,
) -> std::io::Result<()> {
    shutdown.await;
    Ok(())
}
