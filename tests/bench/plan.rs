//! For callgrind: from the text of a config (first argument) to the options of its mounts, as often as the second says.

#![allow(clippy::unwrap_used)]

use efs_agent::config::Settings;
use efs_agent::share::client::NfsClient;
use efs_agent::share::plan;
use std::path::Path;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().unwrap();
    let times: u32 = arguments.next().unwrap().parse().unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let address = "10.0.0.1".parse().unwrap();
    // Of a machine where there is nothing: it is not told who it is, and nothing is written.
    let client = NfsClient::establish(Path::new("/nonexistent"), &|| ());
    for _ in 0..times {
        for share in Settings::parse(Path::new(&path), &text).unwrap().shares {
            std::hint::black_box(plan::mount_call(&share, address, &client));
        }
    }
}
