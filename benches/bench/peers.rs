//! The programs in `benches/peers`.

use std::path::{Path, PathBuf};

pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers")
}

/// Whether `install.sh` has installed the peer `name`.
pub fn installed(name: &str) -> bool {
    let Ok(into) = std::env::var("BENCH_PEERS") else { return false };
    let status =
        std::process::Command::new(directory().join("run.sh")).args(["--installed", name, &into]).status();
    status.is_ok_and(|status| status.success())
}
