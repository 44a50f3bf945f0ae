//! Several keys at once: to each server that has some of them one pipeline, all servers at once.
//!
//! A pipeline is cut into chunks, one after the other, each of which takes a connection as a single operation
//! does: so a long batch holds nobody up. All chunks have one budget. The first chunk that fails fails the rest
//! of its server's keys with it, and no other server's.

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};

use super::{
    ATTEMPTS, Memcached,
    budget::Budget,
    exchange::{self, Answer, Command},
    holds::emptied_number,
    key::Spelling,
    pool,
    pool::Asked,
};
use crate::{Fill, TierError, remote::in_order};

/// Keys in a chunk, at most.
const MOST: usize = 256;
/// Bytes of values in a chunk; one value more may go over it.
const MOST_BYTES: usize = 1 << 20;

/// What came of the key in each place.
type Placed<R> = Vec<(usize, Result<R, TierError>)>;

/// A value to store, and where it stands in its batch.
pub(super) struct Entry<'a> {
    pub(super) place: usize,
    pub(super) key: Spelling,
    pub(super) bytes: &'a Bytes,
    pub(super) seconds: u32,
}

impl Memcached {
    /// Sends each key's commands to its server, and gives each key's answers, in the order of the keys.
    pub(super) async fn ask_all(
        &self,
        keys: &[&[u8]],
        budget: Budget,
        commands: fn(&Spelling) -> Vec<Command>,
    ) -> Vec<Result<Vec<Answer>, TierError>> {
        let spelled: Vec<Spelling> = keys.iter().map(|key| Spelling::of(key)).collect();
        let shares = self.shares(spelled.iter().enumerate(), |(_, key)| key);
        let asked = shares
            .iter()
            .enumerate()
            .map(|(server, share)| self.ask_share(server, share, budget, commands));
        in_place(keys.len(), join_all(asked).await)
    }

    async fn ask_share(
        &self,
        server: usize,
        share: &[(usize, &Spelling)],
        mut budget: Budget,
        commands: fn(&Spelling) -> Vec<Command>,
    ) -> Placed<Vec<Answer>> {
        let (mut placed, mut failure) = (Vec::with_capacity(share.len()), None);
        for chunk in share.chunks(MOST) {
            let each: Vec<Vec<Command>> = chunk.iter().map(|(_, key)| commands(key)).collect();
            let mut answers = Vec::new().into_iter();
            if failure.is_none() {
                match self.ask_within(server, &mut budget, &each.concat()).await {
                    Ok(asked) => answers = asked.answers.into_iter(),
                    Err(error) => failure = Some(error),
                }
            }
            for ((place, _), commands) in chunk.iter().zip(&each) {
                let own: Vec<Answer> = answers.by_ref().take(commands.len()).collect();
                placed.push((*place, failure.clone().map_or(Ok(own), Err)));
            }
        }
        placed
    }

    async fn ask_within(
        &self,
        server: usize,
        budget: &mut Budget,
        commands: &[Command],
    ) -> Result<Asked, TierError> {
        let pools = self.pools()?;
        pool(&pools, server)?.ask(budget, commands).await
    }

    /// As `set` for each: what is there goes, and the fills follow on the same connection.
    pub(super) async fn set_all(&self, entries: Vec<Entry<'_>>, budget: Budget) -> Placed<Fill> {
        let shares = self.shares(entries, |entry| &entry.key);
        let stored =
            shares.iter().enumerate().map(|(server, share)| self.set_share(server, share, budget));
        join_all(stored).await.into_iter().flatten().collect()
    }

    async fn set_share(
        &self,
        server: usize,
        share: &[Entry<'_>],
        mut budget: Budget,
    ) -> Placed<Fill> {
        let (mut placed, mut failure) = (Vec::with_capacity(share.len()), None::<TierError>);
        let mut rest = share;
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(chunk_of(rest));
            rest = after;
            let stored = match &failure {
                None => self.set_chunk(server, chunk, &mut budget).await,
                Some(error) => Err(error.clone()),
            };
            match stored {
                Ok(stored) => placed.extend(stored),
                // It has answered, and one of them is to blame: each for itself.
                Err(TierError::Refused(_)) => {
                    let ones = chunk.iter().map(|entry| {
                        let bytes = entry.bytes.clone();
                        let one = self.set_one(&entry.key, bytes, entry.seconds, budget);
                        Box::pin(one) as BoxFuture<'_, _>
                    });
                    let ones = in_order(ones.collect()).await;
                    let places = chunk.iter().map(|entry| entry.place);
                    placed.extend(places.zip(ones));
                }
                Err(error) => {
                    placed.extend(chunk.iter().map(|entry| (entry.place, Err(error.clone()))));
                    failure = Some(error);
                }
            }
        }
        placed
    }

    async fn set_chunk(
        &self,
        server: usize,
        chunk: &[Entry<'_>],
        budget: &mut Budget,
    ) -> Result<Placed<Fill>, TierError> {
        let pools = self.pools()?;
        let (pool, stub) = (pool(&pools, server)?, self.stub());
        let mut placed = Vec::with_capacity(chunk.len());
        let mut left: Vec<&Entry<'_>> = chunk.iter().collect();
        for _ in 0..ATTEMPTS {
            if left.is_empty() {
                break;
            }
            let empty: Vec<Command> =
                left.iter().flat_map(|entry| Command::empty(&entry.key, stub)).collect();
            let mut lent = pool.lend(budget).await?;
            let emptied = lent.ask(budget, &empty).await?;
            let mut emptied = emptied.chunks(empty.len() / left.len()).map(emptied_number);
            let mut numbers = Vec::with_capacity(left.len());
            let mut failure = None;
            left.retain(|entry| match emptied.next().unwrap_or_else(|| Err(exchange::missing())) {
                Ok(Some(cas)) => {
                    numbers.push(cas);
                    true
                }
                Ok(None) => {
                    placed.push((entry.place, Ok(Fill::Refused)));
                    false
                }
                Err(error) => {
                    failure = Some(error);
                    true
                }
            });
            if let Some(error) = failure {
                return Err(error);
            }
            let mut fills = Vec::with_capacity(left.len() * 2);
            for (entry, cas) in left.iter().zip(numbers) {
                let (key, bytes) = (&entry.key, entry.bytes.clone());
                fills.push(Command::fill(key, cas, bytes, entry.seconds));
                fills.push(Command::delete_lease(key));
            }
            let answers = lent.ask(budget, &fills).await?;
            lent.give_back();
            let mut filled = answers.iter().step_by(2);
            // Somebody else's fill or write came between: once more.
            left.retain(|entry| {
                let is_stored = filled.next().is_some_and(Answer::is_done);
                if is_stored {
                    placed.push((entry.place, Ok(Fill::Stored)));
                }
                !is_stored
            });
        }
        placed.extend(left.iter().map(|entry| (entry.place, Ok(Fill::Refused))));
        Ok(placed)
    }

    /// What each server has of them, by the server's number.
    fn shares<T>(
        &self,
        items: impl IntoIterator<Item = T>,
        key: impl Fn(&T) -> &Spelling,
    ) -> Vec<Vec<T>> {
        let mut shares: Vec<Vec<T>> = (0..self.servers.len()).map(|_| Vec::new()).collect();
        for item in items {
            if let Some(share) = shares.get_mut(self.servers.of(key(&item))) {
                share.push(item);
            }
        }
        shares
    }
}

/// How many of these make a chunk; at least one.
fn chunk_of(entries: &[Entry<'_>]) -> usize {
    let mut bytes = 0;
    let fits = |entry: &&Entry<'_>| {
        let before = bytes;
        bytes += entry.bytes.len();
        before < MOST_BYTES
    };
    entries.iter().take(MOST).take_while(fits).count().max(1)
}

/// Results in their places.
pub(super) fn in_place<R>(
    places: usize,
    results: impl IntoIterator<Item = Placed<R>>,
) -> Vec<Result<R, TierError>> {
    let mut placed: Vec<Result<R, TierError>> =
        (0..places).map(|_| Err(exchange::missing())).collect();
    for (place, result) in results.into_iter().flatten() {
        if let Some(into) = placed.get_mut(place) {
            *into = result;
        }
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_ends_by_number_or_by_size() {
        let entries = |count: usize, bytes: &'static Bytes| -> Vec<Entry<'static>> {
            let entry = |place| Entry { place, key: Spelling::of(b"k"), bytes, seconds: 2 };
            (0..count).map(entry).collect()
        };
        static SMALL: Bytes = Bytes::from_static(b"v");
        static HALF: Bytes = Bytes::from_static(&[7; MOST_BYTES / 2]);
        static HUGE: Bytes = Bytes::from_static(&[7; MOST_BYTES * 2]);
        for (count, bytes, chunk) in [
            (1, &SMALL, 1),
            (MOST, &SMALL, MOST),
            (MOST + 1, &SMALL, MOST),
            (9, &HALF, 2),
            (9, &HUGE, 1),
        ] {
            assert_eq!(chunk_of(&entries(count, bytes)), chunk);
        }
    }
}
