//! Writers in processes of their own: killed between the commit and the end, killed before the commit, or stopped for
//! longer than the hold stands. The point of a hold: none leaves an old value for good.
//!
//! The source is a file. The writer is this test program, run again; it says how far it is, and goes on when it is told.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use tiered::{
    Outcome, Tiered,
    tiers::{Memcached, Moka, Redis},
};
use tiered_tiers::testing::{MemcachedServer, RedisServer};
use tokio::sync::oneshot;

use crate::support::SECOND;

const HOLD: Duration = Duration::from_millis(1_500);

fn over(url: &str) -> Tiered {
    // L2 alone: what is left there is what everybody gets.
    let builder = match url.strip_prefix("memcached:") {
        Some(address) => Tiered::remote(Memcached::new(address).unwrap()),
        None => Tiered::remote(Redis::new(url).unwrap().response_timeout(5 * SECOND)),
    };
    builder.hold_for(HOLD).budget(5 * SECOND).build().unwrap()
}

fn load(file: &Path) -> std::io::Result<u64> {
    Ok(std::fs::read_to_string(file)?.trim().parse().unwrap())
}

/// The writer.
#[tokio::test]
async fn a_writer_in_a_process_of_its_own() {
    let Ok(url) = std::env::var("TIERED_WRITER_URL") else { return };
    let file = PathBuf::from(std::env::var_os("TIERED_WRITER_SOURCE").unwrap());
    let cache = over(&url);
    let ask = |what: &str| {
        println!("\nSTEP {what}");
        std::io::stdout().flush().unwrap();
        std::io::stdin().read_line(&mut String::new()).unwrap();
    };
    let write = || async {
        ask("begun");
        std::fs::write(&file, "2")?;
        ask("committed");
        Ok::<_, std::io::Error>(())
    };
    let written = cache.invalidate_after("k", write).await.unwrap();
    if written.ack == tiered::Ack::Pending {
        // A command that was under way while it stood still took its connection along: the delete is replayed.
        while cache.health().await.pending > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    ask("done");
}

struct Writer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Writer {
    fn start(url: &str, file: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "dying_writers::a_writer_in_a_process_of_its_own", "--nocapture"])
            .env("TIERED_WRITER_URL", url)
            .env("TIERED_WRITER_SOURCE", file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, input, output: BufReader::new(output) }
    }

    /// Waits until it has come so far.
    fn reaches(&mut self, step: &str) {
        let wanted = format!("STEP {step}");
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "it never was {step}");
            if let Some(reached) = line.trim().strip_prefix("STEP ") {
                assert_eq!(format!("STEP {reached}"), wanted);
                return;
            }
        }
    }

    fn goes_on(&mut self) {
        self.input.write_all(b"\n").unwrap();
    }

    fn signal(&self, name: &str) {
        let number = self.child.id().to_string();
        let sent = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &number]).status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // It is this test's own child, whatever state it is in.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server with the old value, and the source beside it.
struct Scene {
    url: String,
    file: PathBuf,
    _servers: (Option<RedisServer>, Option<MemcachedServer>),
}

impl Scene {
    async fn all() -> Vec<Self> {
        let redis = RedisServer::start().await.unwrap();
        let memcached = MemcachedServer::start().await.unwrap();
        let file = |port| {
            let name = format!("tiered-source-{}-{port}", std::process::id());
            std::env::temp_dir().join(name)
        };
        let scenes = vec![
            Self { url: redis.url(), file: file(redis.port()), _servers: (Some(redis), None) },
            Self {
                url: format!("memcached:{}", memcached.address()),
                file: file(memcached.port()),
                _servers: (None, Some(memcached)),
            },
        ];
        for scene in &scenes {
            std::fs::write(&scene.file, "1").unwrap();
            assert_eq!(scene.read().await, 1);
            let kept = over(&scene.url).key("k").lookup::<u64>().await.unwrap();
            assert_eq!(kept.outcome, Outcome::HitL2);
        }
        scenes
    }

    /// What a reader that has just come gets.
    async fn read(&self) -> u64 {
        *over(&self.url).get_or_load("k", || async { load(&self.file) }).await.unwrap()
    }

    /// Waits until what is loaded is stored again, and says what that is.
    async fn opened(&self) -> u64 {
        let start = std::time::Instant::now();
        loop {
            self.read().await;
            let kept = over(&self.url).key("k").lookup::<u64>().await.unwrap();
            if let Some(value) = kept.value {
                return *value;
            }
            assert!(start.elapsed() < 20 * SECOND, "the hold never ends");
            // A real wait: it is the server's clock that ends the hold.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_is_killed_after_its_commit_leaves_nothing_old() {
    for scene in Scene::all().await {
        let mut writer = Writer::start(&scene.url, &scene.file);
        writer.reaches("begun");
        assert_eq!(scene.read().await, 1, "loaded before the commit, and stored by nobody");
        // And one that is loaded before the commit, and stored after the writer's death.
        let (go, may_go) = oneshot::channel::<()>();
        let (begun, has_begun) = oneshot::channel();
        let (url, file) = (scene.url.clone(), scene.file.clone());
        let slow = tokio::spawn(async move {
            let load = || async {
                let old = load(&file);
                begun.send(()).unwrap();
                may_go.await.unwrap();
                old
            };
            *over(&url).get_or_load("k", load).await.unwrap()
        });
        has_begun.await.unwrap();
        writer.goes_on();
        writer.reaches("committed");
        drop(writer);
        assert_eq!(scene.read().await, 2);
        assert_eq!(scene.opened().await, 2);
        go.send(()).unwrap();
        assert_eq!(slow.await.unwrap(), 1);
        for _ in 0..3 {
            assert_eq!(scene.read().await, 2, "{}", scene.url);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_is_killed_before_its_commit_leaves_the_key_usable() {
    for scene in Scene::all().await {
        let mut writer = Writer::start(&scene.url, &scene.file);
        writer.reaches("begun");
        drop(writer);
        assert_eq!(scene.read().await, 1);
        assert_eq!(scene.opened().await, 1, "{}", scene.url);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_stood_still_for_longer_than_its_hold_drops_the_key_all_the_same() {
    for scene in Scene::all().await {
        let mut writer = Writer::start(&scene.url, &scene.file);
        writer.reaches("begun");
        writer.signal("STOP");
        assert_eq!(scene.opened().await, 1, "its hold is over, and others store what they load");
        writer.signal("CONT");
        writer.goes_on();
        writer.reaches("committed");
        writer.goes_on();
        writer.reaches("done");
        assert_eq!(scene.read().await, 2, "{}", scene.url);
        assert_eq!(scene.opened().await, 2, "{}", scene.url);
    }
}

#[tokio::test]
async fn nothing_is_left_on_the_server_without_an_expiry() {
    let server = RedisServer::start().await.unwrap();
    let cache = Tiered::new(Moka::new(10), Redis::new(&server.url()).unwrap()).build().unwrap();
    let write = || async {
        let immortal = server.keys_without_expiry().await.unwrap();
        assert_eq!(immortal, Vec::<Vec<u8>>::new(), "while it writes");
        Ok::<_, std::io::Error>(())
    };
    let _ = cache.invalidate_after("k", write).await.unwrap();
    let _ = cache.key("k").write_through(1_u32, |_| write()).await.unwrap();
    assert_eq!(server.keys_without_expiry().await.unwrap(), Vec::<Vec<u8>>::new());
}
