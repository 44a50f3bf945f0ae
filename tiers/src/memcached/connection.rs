//! One connection to a server: commands out in one piece, their answers in.
//!
//! The client spells the commands and reads the lines of their answers. Its own connection is not used: it
//! hides its socket and what it has read ahead, and a connection may serve the next operation only if neither
//! holds a byte that nobody has asked for.

use std::{io, mem::MaybeUninit, net::SocketAddr};

use memcache::exp::{MetaResponse, ReturnCode};
use socket2::SockRef;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpStream, ToSocketAddrs, lookup_host},
    time::Instant,
};

use super::{
    exchange::{Answer, Command, failed},
    leases::Origin,
};
use crate::TierError;

/// The longest line of an answer; memcached's own are a few dozen bytes.
const LONGEST_LINE: u64 = 2_048;

/// An open connection.
pub(super) struct Connection {
    stream: BufReader<TcpStream>,
    peer: SocketAddr,
    dialled: Instant,
    /// Commands so far.
    asked: u64,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("dialled", &self.dialled).finish_non_exhaustive()
    }
}

impl Connection {
    /// Dials what `address` means now: of several, `known` first.
    pub(super) async fn dial(
        address: impl ToSocketAddrs,
        known: Option<SocketAddr>,
    ) -> io::Result<Self> {
        let mut peers: Vec<SocketAddr> = lookup_host(address).await?.collect();
        peers.sort_by_key(|peer| Some(*peer) != known);
        let mut failure = io::Error::from(io::ErrorKind::NotFound);
        for peer in peers {
            match TcpStream::connect(peer).await {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    let stream = BufReader::new(stream);
                    return Ok(Self { stream, peer, dialled: Instant::now(), asked: 0 });
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    pub(super) fn dialled(&self) -> Instant {
        self.dialled
    }

    /// Whether its server is the one, not restarted since, that gave a lease.
    pub(super) fn was_open_at(&self, origin: &Origin) -> bool {
        self.peer == origin.peer && self.dialled <= origin.asked
    }

    /// Whether it is open and nothing is on its way: what lies idle has no answer to expect. One
    /// system call: what the runtime knows of the socket may be old.
    pub(super) fn is_quiet(&self) -> bool {
        let peeked = SockRef::from(self.stream.get_ref()).peek(&mut [MaybeUninit::uninit()]);
        self.stream.buffer().is_empty()
            && peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Sends commands in one piece and reads their answers. After an error, and when its future is dropped,
    /// the connection is of no more use.
    pub(super) async fn exchange(
        &mut self,
        commands: &[Command],
    ) -> Result<Vec<Answer>, TierError> {
        let first = self.asked;
        let mut piece = Vec::new();
        for command in commands {
            command.spell(self.asked, &mut piece)?;
            self.asked += 1;
        }
        self.stream.write_all(&piece).await.map_err(|error| broke(&error))?;
        let mut answers = Vec::with_capacity(commands.len());
        for (command, number) in commands.iter().zip(first..) {
            let (response, value) = self.receive().await?;
            answers.push(command.answer(response, value, number)?);
        }
        if !self.stream.buffer().is_empty() {
            // Which of them is the stray one only their numbers tell, and not all have one.
            return Err(TierError::Protocol("an answer too many".into()));
        }
        Ok(answers)
    }

    async fn receive(&mut self) -> Result<(MetaResponse, Option<Vec<u8>>), TierError> {
        let mut line = Vec::new();
        let mut limited = (&mut self.stream).take(LONGEST_LINE);
        limited.read_until(b'\n', &mut line).await.map_err(|error| broke(&error))?;
        let line = match line.strip_suffix(b"\n") {
            Some(line) => line.strip_suffix(b"\r").unwrap_or(line),
            None if line.len() as u64 == LONGEST_LINE => return Err(garbled()),
            None => return Err(broke(&io::ErrorKind::UnexpectedEof.into())),
        };
        // Refuses lengths that no server can mean.
        let response = MetaResponse::parse_header(line).map_err(|error| failed(&error))?;
        if response.rc() != ReturnCode::Va {
            return Ok((response, None));
        }
        let length = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).nth(1);
        let length = length.and_then(|word| std::str::from_utf8(word).ok()?.parse::<u64>().ok());
        let whole = length.ok_or_else(garbled)?.saturating_add(2);
        // Grows with what comes, whatever was announced.
        let mut value =
            Vec::with_capacity(usize::try_from(whole).map_or(0, |whole| whole.min(1 << 16)));
        let mut limited = (&mut self.stream).take(whole);
        let read = limited.read_to_end(&mut value).await.map_err(|error| broke(&error))?;
        if read as u64 != whole {
            return Err(broke(&io::ErrorKind::UnexpectedEof.into()));
        }
        if !value.ends_with(b"\r\n") {
            return Err(garbled());
        }
        value.truncate(value.len() - 2);
        Ok((response, Some(value)))
    }
}

fn broke(error: &io::Error) -> TierError {
    TierError::Unreachable(error.kind().to_string())
}

fn garbled() -> TierError {
    TierError::Protocol("not the meta protocol".into())
}
