//! A worker: a service in small. Readers, writers and lookers over one cache, until it is told to be quiet.
//!
//! It hears of the orchestrator by its standard input and tells of itself by its standard output, in lines. A
//! worker that is killed loses what it has not told: a twentieth of a second.

mod landing;
mod looker;
mod reader;
mod settings;
mod world;
mod writer;

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines, Stdin, stdin},
    task::JoinSet,
    time::{Instant, interval, sleep, timeout},
};

pub(crate) use self::{landing::TOLERANCE, settings::Settings};
use self::{looker::Looker, reader::Reader, world::World, writer::Writer};

/// How long a worker may take to come to rest.
const REST: Duration = Duration::from_secs(30);

/// Works until it has been told to be quiet, and then to look at everything once more. Ends when nobody speaks to
/// it any more.
pub(crate) async fn run(settings: Settings) -> Result<()> {
    let world = Arc::new(World::new(settings)?);
    let telling = tokio::spawn(tell(Arc::clone(&world)));
    let mut commands = BufReader::new(stdin()).lines();
    let mut tasks = work(&world);
    tokio::select! {
        told = heard(&mut commands, "quiet") => told?,
        ended = ended(&mut tasks) => ended.and_then(|()| bail!("all tasks have ended"))?,
    }
    world.be_quiet();
    timeout(REST, ended(&mut tasks)).await.context("a task does not end")??;
    come_to_rest(&world).await?;
    world.say("quiet");
    heard(&mut commands, "verify").await?;
    verify(&world).await?;
    telling.abort();
    world.tell();
    world.say("verified");
    // Its end is the orchestrator's affair.
    let _ = commands.next_line().await;
    Ok(())
}

/// Waits for a command. The end of the input ends the worker.
async fn heard(commands: &mut Lines<BufReader<Stdin>>, command: &str) -> Result<()> {
    let line = commands.next_line().await?.context("the orchestrator is gone")?;
    ensure!(line == command, "not a command: {line}");
    Ok(())
}

fn work(world: &Arc<World>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let Settings { readers, writers, lookers, .. } = world.settings;
    for number in 0..readers {
        tasks.spawn(Reader::new(world, number).run());
    }
    for number in 0..writers {
        tasks.spawn(Writer::new(world, number).run());
    }
    for number in 0..lookers {
        tasks.spawn(Looker::new(world, number).run());
    }
    tasks
}

/// Tasks end when all is quiet, or by a panic.
async fn ended(tasks: &mut JoinSet<()>) -> Result<()> {
    while let Some(task) = tasks.join_next().await {
        task?;
    }
    Ok(())
}

/// Waits until no invalidation is pending.
async fn come_to_rest(world: &World) -> Result<()> {
    let deadline = Instant::now() + REST;
    while world.cache.health().await.pending > 0 {
        ensure!(Instant::now() < deadline, "a worker does not come to rest");
        // A real wait: for servers, which know no clock of ours.
        sleep(Duration::from_millis(10)).await;
    }
    // What was loaded in the background is stored by then, or not at all.
    timeout(REST, world.cache.shutdown()).await.context("a cache does not end its background tasks")
}

/// Looks at each key in L2, and reads each as the service does.
async fn verify(world: &Arc<World>) -> Result<()> {
    let mut looker = Looker::new(world, 0);
    let mut reader = Reader::new(world, 0);
    for key in 0..world.settings.keys {
        looker.look_at_last(key).await;
        reader.read_plainly(key).await;
    }
    Ok(())
}

async fn tell(world: Arc<World>) {
    let mut ticks = interval(Duration::from_millis(50));
    loop {
        ticks.tick().await;
        world.tell();
    }
}
