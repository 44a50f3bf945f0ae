//! What a node of a cluster answers instead of executing a command. After each of these answers the
//! command was *not* executed, so whatever it is, it may be sent again.

use ::redis::{Pipeline, Value};

use super::super::{connection::Request, endpoint::Address, reply};
use crate::TierError;

/// An answer that is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Redirect {
    /// The slot is that node's.
    Moved(Address),
    /// The key, for this once, is that node's: its slot is on the way there.
    Ask(Address),
    /// Not now; perhaps in a moment.
    NotNow(String),
    /// To a place that is none.
    Nowhere(String),
}

impl Redirect {
    /// The redirection in an answer of the node at `asked`, or in any part of it.
    pub(super) fn of(answer: &Value, asked: &Address) -> Option<Self> {
        match answer {
            Value::ServerError(error) => {
                let place = error.details().unwrap_or_default();
                let to = |make: fn(Address) -> Self| match address(place, asked) {
                    Some(address) => make(address),
                    None => Self::Nowhere(error.code().into()),
                };
                match error.code() {
                    "MOVED" => Some(to(Self::Moved)),
                    "ASK" => Some(to(Self::Ask)),
                    code @ ("CLUSTERDOWN" | "LOADING" | "MASTERDOWN" | "READONLY") => {
                        Some(Self::NotNow(code.into()))
                    }
                    _ => None,
                }
            }
            Value::Array(answers) => answers.iter().find_map(|answer| match answer {
                Value::ServerError(_) => Self::of(answer, asked),
                _ => None,
            }),
            _ => None,
        }
    }
}

/// Reads `slot host:port`. The slot is our own business; a host left out is where we asked.
fn address(place: &str, asked: &Address) -> Option<Address> {
    let (_slot, place) = place.split_once(' ')?;
    let (host, port) = place.trim().rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = if host.is_empty() { asked.host.as_str() } else { host };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".:-_%".contains(&byte);
    let is_plain = host.len() <= 255 && host.bytes().all(plain);
    is_plain.then(|| Address { host: host.to_owned(), port })
}

/// The request with the permission that a node needs for a slot that is still on its way to it.
pub(super) fn asking(request: &Request) -> Request {
    let mut commands = Pipeline::new();
    match request {
        Request::Single(command) => {
            commands.cmd("ASKING").add_command(command.clone());
        }
        Request::Several(several) => {
            for command in several.cmd_iter() {
                commands.cmd("ASKING").add_command(command.clone());
            }
        }
    }
    Request::Several(commands)
}

/// The answer to `request` in the answer to its [`asking`] form.
pub(super) fn asked(request: &Request, answer: Value) -> Result<Value, TierError> {
    let Value::Array(answers) = answer else { return Err(reply::unexpected("not an array")) };
    let mut own = answers.into_iter().skip(1).step_by(2);
    match request {
        Request::Single(_) => own.next().ok_or_else(|| reply::unexpected("array length")),
        Request::Several(_) => Ok(Value::Array(own.collect())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_however_it_is_written() {
        let asked = Address { host: "asked".into(), port: 1 };
        for (place, expected) in [
            ("3999 127.0.0.1:6381", Some(("127.0.0.1", 6381))),
            ("3999 node-1.example:6381", Some(("node-1.example", 6381))),
            ("3999 :6381", Some(("asked", 6381))),
            ("3999 ::1:6381", Some(("::1", 6381))),
            ("3999 [::1]:6381", Some(("::1", 6381))),
            ("3999", None),
            ("", None),
            ("3999 host", None),
            ("3999 host:", None),
            ("3999 host:0", None),
            ("3999 host:70000", None),
            ("3999 ho st:1", None),
            ("3999 h\u{f6}st:1", None),
        ] {
            let expected = expected.map(|(host, port)| Address { host: String::from(host), port });
            assert_eq!(address(place, &asked), expected, "{place}");
        }
    }
}
