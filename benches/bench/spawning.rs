//! The ceiling of scripts: `bench spawning SCRIPT COUNT` runs a script COUNT times, with an event on its
//! standard input, and does nothing else. It prints how many ran per second.

use std::{
    process::{Output, Stdio},
    time::Instant,
};

use futures_util::{StreamExt, stream};
use tokio::{io::AsyncWriteExt, process::Command};

use crate::work::SCRIPTS_AT_A_TIME;

pub async fn run(script: &str, event: &[u8]) -> Output {
    let mut command = Command::new(script);
    // A worker sets these variables too. With LANG the C library loads a locale, which takes as long as
    // everything else in `true`.
    let environment = ["PATH", "HOME", "LANG"].map(|name| (name, std::env::var_os(name).unwrap_or_default()));
    command.env_clear().envs(environment).process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the script");
    let mut stdin = child.stdin.take().expect("its input");
    // A script that does not read its input may end before all of it is written.
    let _ = stdin.write_all(event).await;
    drop(stdin);
    let ended = child.wait_with_output().await.expect("its end");
    assert!(ended.status.success(), "{script} ended with {}", ended.status);
    ended
}

pub async fn measure(arguments: &[String]) {
    let [script, count] = arguments else { panic!("bench spawning SCRIPT COUNT") };
    let count: usize = count.parse().expect("a number");
    let event = crate::load::body("clients.create", 1, 300);
    let begun = Instant::now();
    stream::iter(0..count)
        .for_each_concurrent(SCRIPTS_AT_A_TIME, async |_| drop(run(script, event.as_bytes()).await))
        .await;
    println!("{}", count as f64 / begun.elapsed().as_secs_f64());
}
