//! Verifies Signature Version 4.
//!
//! Rebuilds the request's canonical form, signs it with our copy of the secret, and compares the
//! two signatures. Signing keys come from `aws-sigv4`.

use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use sha2::{Digest, Sha256};
use std::time::{Duration, SystemTime};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// Largest accepted difference of a client's clock.
const MAX_SKEW: Duration = Duration::from_secs(15 * 60);
const TIME_FORMAT: &str = "%Y%m%dT%H%M%SZ";

/// Why a request was not authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AuthError {
    /// It is not signed.
    Missing,
    /// The signature cannot be parsed.
    Incomplete(String),
    /// The key is unknown.
    UnknownKey,
    /// The signature is wrong or from another time.
    Mismatch(String),
}

/// An access key and its secret.
#[derive(Clone, Copy)]
pub(super) struct Key<'k> {
    pub(super) id: &'k str,
    pub(super) secret: &'k str,
    /// The session token of temporary keys.
    pub(super) token: Option<&'k str>,
}

impl<'k> Key<'k> {
    /// A key that does not expire.
    pub(super) fn lasting(id: &'k str, secret: &'k str) -> Self {
        Key { id, secret, token: None }
    }
}

/// The key id and the Region that a request claims. Unverified.
pub(super) fn claimed(parts: &Parts) -> Option<(&str, &str)> {
    let (_, scope) = text(&parts.headers, "authorization")?.split_once("Credential=")?;
    let mut scope = scope.split(['/', ',', ' ']);
    let (id, _day, region) = (scope.next()?, scope.next()?, scope.next()?);
    Some((id, region))
}

/// Verifies a request's signature.
///
/// # Errors
/// See [`AuthError`].
pub(super) fn verify(
    parts: &Parts,
    body: &[u8],
    keys: Key<'_>,
    now: SystemTime,
) -> Result<(), AuthError> {
    let incomplete = |what: &str| AuthError::Incomplete(what.to_owned());
    let authorization = text(&parts.headers, "authorization").ok_or(AuthError::Missing)?;
    let fields = authorization
        .strip_prefix(ALGORITHM)
        .filter(|rest| rest.starts_with(' '))
        .ok_or_else(|| incomplete("the signature is to be AWS4-HMAC-SHA256"))?;
    let field = |name: &str| {
        fields
            .split(',')
            .find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))
            .ok_or_else(|| AuthError::Incomplete(format!("Authorization has no {name}")))
    };
    let (credential, signed, signature) =
        (field("Credential")?, field("SignedHeaders")?, field("Signature")?);
    let scope: Vec<&str> = credential.split('/').collect();
    let [id, day, region, service, "aws4_request"] = scope[..] else {
        return Err(incomplete("Credential is to be KEY/DATE/REGION/SERVICE/aws4_request"));
    };
    let token = parts.headers.get("x-amz-security-token").map(HeaderValue::as_bytes);
    let is_known = match (token, keys.token) {
        (None, None) => true,
        (Some(shown), Some(wanted)) => same(shown, wanted.as_bytes()),
        _ => false,
    };
    if id != keys.id || !is_known {
        return Err(AuthError::UnknownKey);
    }
    let date = text(&parts.headers, "x-amz-date").ok_or_else(|| incomplete("no X-Amz-Date"))?;
    let time = moment(date).ok_or_else(|| incomplete("X-Amz-Date is not a time"))?;
    let names: Vec<&str> = signed.split(';').collect();
    if !["host", "x-amz-date"].iter().all(|name| names.contains(name)) {
        return Err(incomplete("Host and X-Amz-Date are to be signed"));
    }
    let hash = hex(&Sha256::digest(body));
    if text(&parts.headers, "x-amz-content-sha256").is_some_and(|told| told != hash) {
        return Err(AuthError::Mismatch("the body is not the one that was signed".to_owned()));
    }
    let canonical = canonical(parts, &names, signed, &hash)
        .ok_or_else(|| incomplete("a signed header is missing"))?;
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let to_sign = format!("{ALGORITHM}\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
    let key = generate_signing_key(keys.secret, time, region, service);
    let ours = calculate_signature(key, to_sign.as_bytes());
    if !date.starts_with(day) || !same(signature.as_bytes(), ours.as_bytes()) {
        return Err(AuthError::Mismatch(
            "the signature does not match: is it the secret of this endpoint's key?".to_owned(),
        ));
    }
    // Checked last: a caller without the secret learns nothing, not even our time.
    skew(date, time, now).map_or(Ok(()), |text| Err(AuthError::Mismatch(text)))
}

/// AWS's message about the time, with both clocks, so that a person can see which one is wrong.
fn skew(date: &str, time: SystemTime, now: SystemTime) -> Option<String> {
    let minutes = MAX_SKEW.as_secs() / 60;
    let (earliest, latest) = (now - MAX_SKEW, now + MAX_SKEW);
    let now = stamp(now);
    if time < earliest {
        let earliest = stamp(earliest);
        return Some(format!(
            "Signature expired: {date} is now earlier than {earliest} ({now} - {minutes} min.)"
        ));
    }
    (time > latest).then(|| {
        let latest = stamp(latest);
        format!("Signature not yet current: {date} is still later than {latest} ({now} + {minutes} min.)")
    })
}

/// A time in the form of signatures.
fn stamp(time: SystemTime) -> String {
    let time = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::MAX);
    time.strftime(TIME_FORMAT).to_string()
}

fn canonical(parts: &Parts, names: &[&str], signed: &str, hash: &str) -> Option<String> {
    let mut query: Vec<(&str, &str)> = parts
        .uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .collect();
    query.sort_unstable();
    let query: Vec<String> =
        query.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut headers = String::new();
    for name in names {
        let values: Vec<String> = parts
            .headers
            .get_all(*name)
            .iter()
            .map(|value| {
                let text = String::from_utf8_lossy(value.as_bytes());
                text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
            })
            .collect();
        if values.is_empty() {
            return None;
        }
        headers.push_str(&format!("{name}:{}\n", values.join(",")));
    }
    let path = encoded(parts.uri.path());
    let query = query.join("&");
    Some(format!("{}\n{path}\n{query}\n{headers}\n{signed}\n{hash}", parts.method))
}

/// A path with each part encoded again, as every service but S3 requires.
fn encoded(path: &str) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(byte);
    path.bytes()
        .map(|byte| match is_plain(&byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn moment(text: &str) -> Option<SystemTime> {
    let time = jiff::civil::DateTime::strptime(TIME_FORMAT, text).ok()?;
    Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().into())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compares in constant time.
fn same(shown: &[u8], wanted: &[u8]) -> bool {
    shown.len() == wanted.len()
        && shown.iter().zip(wanted).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_credential_types::Credentials;
    use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
    use aws_sigv4::sign::v4::SigningParams;

    const BODY: &[u8] = br#"{"Target":"codebuild:x"}"#;

    fn keys() -> Key<'static> {
        Key::lasting("AKIAEXAMPLE", "secret")
    }

    fn time() -> SystemTime {
        moment("20260101T120000Z").expect("a time")
    }

    /// A request signed by the real library, like a client's.
    fn signed(secret: &str, uri: &str, at: SystemTime) -> Parts {
        signed_with(secret, None, uri, at)
    }

    fn signed_with(secret: &str, token: Option<&str>, uri: &str, at: SystemTime) -> Parts {
        let token = token.map(str::to_owned);
        let identity = Credentials::new("AKIAEXAMPLE", secret, token, None, "test").into();
        let params = SigningParams::builder()
            .identity(&identity)
            .region("us-east-1")
            .name("ssm")
            .time(at)
            .settings(SigningSettings::default())
            .build()
            .expect("whole")
            .into();
        let headers = [("x-amz-target", "AmazonSSM.StartSession"), ("host", "127.0.0.1:4599")];
        let url = format!("http://127.0.0.1:4599{uri}");
        let request =
            SignableRequest::new("POST", &url, headers.into_iter(), SignableBody::Bytes(BODY))
                .expect("a request");
        let (instructions, _) = sign(request, &params).expect("signed").into_parts();
        let mut builder = http::Request::builder().method("POST").uri(uri);
        for (name, value) in headers {
            builder = builder.header(name, value);
        }
        for (name, value) in instructions.headers() {
            builder = builder.header(name, value);
        }
        builder.body(()).expect("a request").into_parts().0
    }

    #[test]
    fn the_real_librarys_signature_is_taken() {
        for uri in ["/", "/service/CodeBuild_20161006/operation/ListBuilds", "/?b=2&a=1"] {
            assert_eq!(
                verify(&signed("secret", uri, time()), BODY, keys(), time()),
                Ok(()),
                "{uri}"
            );
        }
    }

    #[test]
    fn a_key_for_a_while_comes_with_its_token() {
        let verified = |shown: Option<&str>, wanted: Option<&'static str>| {
            let key = Key { token: wanted, ..keys() };
            verify(&signed_with("secret", shown, "/", time()), BODY, key, time())
        };
        assert_eq!(verified(Some("token"), Some("token")), Ok(()));
        for (shown, wanted) in
            [(None, Some("token")), (Some("other"), Some("token")), (Some("token"), None)]
        {
            assert_eq!(verified(shown, wanted), Err(AuthError::UnknownKey), "{shown:?}");
        }
    }

    #[test]
    fn a_clock_that_is_wrong_is_shown_with_the_other_one() {
        let minute = Duration::from_secs(60);
        let at = |now: SystemTime| verify(&signed("secret", "/", time()), BODY, keys(), now);
        assert_eq!(at(time() + minute * 15), Ok(()));
        assert_eq!(at(time() - minute * 15), Ok(()));
        let refused = |text: &str| Err(AuthError::Mismatch(text.to_owned()));
        assert_eq!(
            at(time() + minute * 20),
            refused(
                "Signature expired: 20260101T120000Z is now earlier than 20260101T120500Z \
                 (20260101T122000Z - 15 min.)"
            )
        );
        assert_eq!(
            at(time() - minute * 20),
            refused(
                "Signature not yet current: 20260101T120000Z is still later than 20260101T115500Z \
                 (20260101T114000Z + 15 min.)"
            )
        );
    }

    #[test]
    fn everything_else_is_refused() {
        let good = || signed("secret", "/", time());
        let mismatch = |parts: &Parts, body: &[u8], now| {
            assert!(matches!(verify(parts, body, keys(), now), Err(AuthError::Mismatch(_))));
        };
        mismatch(&good(), b"{}", time());
        mismatch(&signed("another", "/", time()), BODY, time());
        mismatch(&good(), BODY, time() + MAX_SKEW * 2);
        mismatch(&good(), BODY, time() - MAX_SKEW * 2);
        let mut other = good();
        other.headers.insert("x-amz-target", "AmazonSSM.TerminateSession".parse().expect("text"));
        mismatch(&other, BODY, time());
        other.headers.remove("x-amz-target");
        assert!(matches!(verify(&other, BODY, keys(), time()), Err(AuthError::Incomplete(_))));
        let mut other = good();
        other.uri = "/x".parse().expect("a path");
        mismatch(&other, BODY, time());
        let mut other = good();
        other.headers.remove("authorization");
        assert_eq!(verify(&other, BODY, keys(), time()), Err(AuthError::Missing));
        let stranger = Key::lasting("AKIAOTHER", "secret");
        assert_eq!(verify(&good(), BODY, stranger, time()), Err(AuthError::UnknownKey));
        for text in [
            "Bearer x",
            "AWS4-HMAC-SHA256",
            "AWS4-HMAC-SHA256 Credential=a, SignedHeaders=host, Signature=0",
            "AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/20260101/us-east-1/ssm/aws4_request, \
             SignedHeaders=, Signature=0",
        ] {
            let mut other = good();
            other.headers.insert("authorization", text.parse().expect("text"));
            assert!(
                matches!(verify(&other, BODY, keys(), time()), Err(AuthError::Incomplete(_))),
                "{text}"
            );
        }
    }
}
