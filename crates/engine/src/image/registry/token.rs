//! Authorization: reads the challenge in a registry's refusal and answers with a token or a
//! password.
//!
//! A password goes only to the registry or to the one address it names for tokens; no redirect
//! carries it further (docs/adr/0072).

use super::failure::RegistryFailure;
use super::http::{Http, RegistryRequest, whole};
use super::route::{Want, shown};
use crate::image::auth::Login;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::Url;
use serde::Deserialize;
use tokio::sync::Mutex;

/// Most bytes of a token response.
const MOST_ANSWER: u64 = 1 << 20;
/// Longest token in bytes: it goes into a header, and servers accept no longer one.
const MOST_TOKEN: usize = 64 << 10;

/// The kind of credentials that a refusal asks for.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

/// Credentials for a registry, and the header sent last.
pub(super) struct Entrance {
    login: Login,
    /// The scope to request for the token.
    scope: String,
    shown: Mutex<Option<HeaderValue>>,
}

/// The response of a token service.
#[derive(Deserialize)]
struct Granted {
    token: Option<String>,
    access_token: Option<String>,
}

impl Entrance {
    /// Credentials for pulling from this repository.
    pub(super) fn new(login: Login, repository: &str) -> Self {
        Entrance { login, scope: format!("repository:{repository}:pull"), shown: Mutex::default() }
    }

    /// The header to send, if one is known yet.
    pub(super) async fn shown(&self) -> Option<HeaderValue> {
        self.shown.lock().await.clone()
    }

    /// The header to send after the registry refused `refused`; `None` if there is no other.
    pub(super) async fn renew(
        &self,
        http: &Http,
        refused: Option<&HeaderValue>,
        headers: &HeaderMap,
    ) -> Result<Option<HeaderValue>, RegistryFailure> {
        let mut shown = self.shown.lock().await;
        if shown.as_ref() != refused {
            // Another request was refused as well and has renewed the header.
            return Ok(shown.clone());
        }
        let value = match challenge(headers) {
            None => return Ok(None),
            Some(Challenge::Basic) => match self.login.basic().transpose()? {
                Some(value) if refused != Some(&value) => value,
                _ => return Ok(None),
            },
            Some(Challenge::Bearer { realm, service }) => {
                self.token(http, &realm, service.as_deref()).await?
            }
        };
        Ok(shown.insert(value).clone().into())
    }

    async fn token(
        &self,
        http: &Http,
        realm: &str,
        service: Option<&str>,
    ) -> Result<HeaderValue, RegistryFailure> {
        let mut url = Url::parse(realm)
            .map_err(|_| RegistryFailure::Answer("it names no address for tokens".to_owned()))?;
        http.base.may_ask(&url).map_err(RegistryFailure::Answer)?;
        http.leave_home(&url);
        url.query_pairs_mut().append_pair("scope", &self.scope);
        if let Some(service) = service {
            url.query_pairs_mut().append_pair("service", service);
        }
        let place = shown(&url);
        let authorization = self.login.basic().transpose()?;
        let (headers, authorization) = (&HeaderMap::new(), authorization.as_ref());
        let response =
            http.get(RegistryRequest { want: Want::Token, url, headers, authorization }).await?;
        let bytes = match whole(response, MOST_ANSWER, "answer with a token").await {
            Err(RegistryFailure::Status { status, message, .. }) => {
                return Err(RegistryFailure::NotLetIn(format!(
                    "{place} answers {status}: {message}"
                )));
            }
            read => read?,
        };
        let unusable = |why: &str| RegistryFailure::Answer(format!("the token of {place} {why}"));
        let granted: Granted =
            serde_json::from_slice(&bytes).map_err(|_| unusable("is not in its answer"))?;
        let token = granted.token.filter(|token| !token.is_empty()).or(granted.access_token);
        let token = token.ok_or_else(|| unusable("is not in its answer"))?;
        if token.len() > MOST_TOKEN {
            return Err(unusable(&format!("is longer than {MOST_TOKEN} bytes")));
        }
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| unusable("has characters that no token has"))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl Login {
    /// The Basic header; `None` without a login.
    fn basic(&self) -> Option<Result<HeaderValue, RegistryFailure>> {
        let Login::Password { user, password } = self else { return None };
        let text = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        let value = HeaderValue::from_str(&text).map(|mut value| {
            value.set_sensitive(true);
            value
        });
        Some(value.map_err(|error| RegistryFailure::Answer(error.to_string())))
    }
}

/// The challenge in a refusal. Prefers a token to a password.
fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let mut basic = None;
    for value in headers.get_all(WWW_AUTHENTICATE) {
        let Ok(challenges) = http_auth::parse_challenges(value.to_str().unwrap_or_default()) else {
            continue;
        };
        for challenge in challenges {
            let parameter = |name: &str| {
                let (_, value) =
                    challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
                Some(value.to_unescaped())
            };
            if challenge.scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            } else if challenge.scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = parameter("realm")
            {
                return Some(Challenge::Bearer { realm, service: parameter("service") });
            }
        }
    }
    basic
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let read = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(value));
            }
            challenge(&headers)
        };
        let bearer = |service: Option<&str>| {
            let realm = "https://auth.example/token".to_owned();
            Some(Challenge::Bearer { realm, service: service.map(str::to_owned) })
        };
        let full = "Bearer realm=\"https://auth.example/token\",service=\"r.example\",scope=\"x\"";
        assert_eq!(read(&[full]), bearer(Some("r.example")));
        assert_eq!(read(&["Basic realm=\"x\"", full]), bearer(Some("r.example")));
        assert_eq!(read(&["bearer realm=\"https://auth.example/token\""]), bearer(None));
        assert_eq!(read(&["Basic realm=\"x\""]), Some(Challenge::Basic));
        for nothing in [&[][..], &["Bearer service=\"x\""], &["\"", "Negotiate"]] {
            assert_eq!(read(nothing), None, "{nothing:?}");
        }
    }
}
