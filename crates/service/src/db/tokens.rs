//! Idempotency tokens: what was created with them, while they are valid.

use super::DbError;
use runner_host::clock;
use rusqlite::{Connection, OptionalExtension, params};
use std::fs;

/// How long AWS keeps a token.
const GOOD_MS: i64 = 5 * 60 * 1000;

/// A token sent with a call.
#[derive(Clone, Debug)]
pub struct RequestToken {
    pub operation: &'static str,
    pub caller: String,
    pub token: String,
    /// Digest of the input without the token.
    pub digest: Vec<u8>,
}

/// The result of looking up a token.
#[derive(Debug, PartialEq, Eq)]
pub enum TokenLookup {
    Nothing,
    /// The same call has created this before.
    Same(String),
    /// Another call used the token.
    Other,
}

/// Looks up a token; expired ones are deleted.
pub fn find(connection: &Connection, token: &RequestToken) -> Result<TokenLookup, DbError> {
    find_at(connection, token, &TokenTime::read())
}

/// Stores what was created with a token.
pub fn keep(connection: &Connection, token: &RequestToken, result: &str) -> Result<(), DbError> {
    keep_at(connection, token, result, &TokenTime::read())
}

struct TokenTime {
    wall: i64,
    boot: i64,
    boot_id: String,
}

impl TokenTime {
    fn read() -> Self {
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        TokenTime {
            wall: clock::wall().epoch_millis(),
            boot: i64::try_from(clock::boot().as_millis()).unwrap_or(i64::MAX),
            boot_id: boot_id.trim().to_owned(),
        }
    }
}

fn find_at(
    connection: &Connection,
    token: &RequestToken,
    now: &TokenTime,
) -> Result<TokenLookup, DbError> {
    // Uses the boot clock, which does not jump, if the machine has not rebooted; otherwise the wall
    // clock, and one that was set back keeps them.
    let forget = "DELETE FROM token WHERE CASE WHEN boot_id = ?1 THEN boot < ?2 ELSE wall < ?3 END";
    connection.prepare_cached(forget)?.execute(params![
        now.boot_id,
        now.boot - GOOD_MS,
        now.wall - GOOD_MS
    ])?;
    let text =
        "SELECT digest, result FROM token WHERE operation = ?1 AND caller = ?2 AND token = ?3";
    let kept: Option<(Vec<u8>, String)> = connection
        .prepare_cached(text)?
        .query_row(params![token.operation, token.caller, token.token], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    Ok(match kept {
        None => TokenLookup::Nothing,
        Some((digest, result)) if digest == token.digest => TokenLookup::Same(result),
        Some(_) => TokenLookup::Other,
    })
}

fn keep_at(
    connection: &Connection,
    token: &RequestToken,
    result: &str,
    now: &TokenTime,
) -> Result<(), DbError> {
    let text = "INSERT INTO token (operation, caller, token, digest, result, wall, boot_id, boot)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let RequestToken { operation, caller, token, digest } = token;
    connection.prepare_cached(text)?.execute(params![
        operation,
        caller,
        token,
        digest,
        result,
        now.wall,
        now.boot_id,
        now.boot
    ])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Db;

    #[test]
    fn a_token_is_good_for_five_minutes_by_the_clock_that_does_not_jump() {
        let dir = tempfile::tempdir().expect("a folder");
        let db = Db::open(dir.path()).expect("a database").db;
        let at = |wall: i64, boot: i64, boot_id: &str| TokenTime {
            wall: wall * 60_000,
            boot: boot * 60_000,
            boot_id: boot_id.to_owned(),
        };
        db.write_now(move |connection| -> Result<(), DbError> {
            let token = RequestToken {
                operation: "StartBuild",
                caller: "me".to_owned(),
                token: "t".to_owned(),
                digest: vec![1],
            };
            let found = |now| find_at(connection, &token, &now).expect("an answer");
            assert_eq!(found(at(100, 10, "a")), TokenLookup::Nothing);
            keep_at(connection, &token, "id", &at(100, 10, "a"))?;
            let same = || TokenLookup::Same("id".to_owned());
            assert_eq!(found(at(100, 11, "a")), same());
            let other = RequestToken { digest: vec![2], ..token.clone() };
            assert_eq!(find_at(connection, &other, &at(100, 11, "a"))?, TokenLookup::Other);
            let elsewhere = RequestToken { caller: "you".to_owned(), ..token.clone() };
            assert_eq!(find_at(connection, &elsewhere, &at(100, 11, "a"))?, TokenLookup::Nothing);
            // The wall clock jumps forward and back.
            assert_eq!(found(at(500, 14, "a")), same());
            assert_eq!(found(at(1, 14, "a")), same());
            // After a reboot, the wall clock is the only one.
            assert_eq!(found(at(104, 0, "b")), same());
            assert_eq!(found(at(106, 0, "b")), TokenLookup::Nothing);
            keep_at(connection, &token, "id", &at(100, 10, "a"))?;
            assert_eq!(found(at(100, 16, "a")), TokenLookup::Nothing);
            Ok(())
        })
        .expect("done");
    }
}
