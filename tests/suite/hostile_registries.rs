//! Registries that lie: how much is read from them, where they may redirect, and what they are
//! sent.

use crate::common::crafted::{CONFIG, LAYER, MANIFEST, architecture, entry, tar};
use crate::common::site::{Asked, Reply, Site};
use crate::common::{Bed, Outcome, cases};
use base64::Engine;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

cases! {
    [Containers] => answers_without_end, tokens_that_are_none, a_registry_that_gives_tokens,
        a_registry_that_refuses_every_token, manifests_led_elsewhere, blobs_led_elsewhere,
        realms_elsewhere, a_token_service_that_leads_elsewhere;
}

/// A served image: its documents by digest.
struct Image {
    manifest: Vec<u8>,
    config: Vec<u8>,
    layer: Vec<u8>,
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

impl Image {
    fn new() -> Self {
        let layer = tar(&[entry("file", b'0', "", &[b'x'; 100_000])]);
        let config = json!({"architecture": architecture(), "os": "linux", "config": {},
                            "rootfs": {"type": "layers", "diff_ids": []}});
        let config = config.to_string().into_bytes();
        let described = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()});
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
                              "config": described(CONFIG, &config),
                              "layers": [described(LAYER, &layer)]});
        Image { manifest: manifest.to_string().into_bytes(), config, layer }
    }

    /// Answers like an honest registry.
    fn answer(&self, asked: &Asked) -> Reply {
        if asked.path.contains("/manifests/") {
            return Reply::new(200, self.manifest.clone());
        }
        let blob = [&self.config, &self.layer]
            .into_iter()
            .find(|blob| asked.path.ends_with(&format!("/blobs/{}", digest(blob))));
        match blob {
            Some(blob) if asked.from == 0 => Reply::new(200, blob.clone()),
            Some(blob) => Reply::new(206, &blob[asked.from..]),
            None => Reply::new(404, ""),
        }
    }
}

fn pull(bed: &Bed, site: &Site) -> Outcome {
    bed.runner(["image", "pull", &format!("{}/some/image:one", site.address)])
}

/// Stores credentials for a registry for the bed's user.
fn log_in(bed: &Bed, address: &str) -> String {
    let basic = base64::engine::general_purpose::STANDARD.encode("alice:wonderland");
    let config = json!({"auths": {address: {"auth": basic}}});
    fs::create_dir_all(bed.path("home/.docker")).unwrap();
    fs::write(bed.path("home/.docker/config.json"), config.to_string()).unwrap();
    format!("Basic {basic}")
}

/// A refusal that names the place to get tokens.
fn refuse(realm: &str) -> Reply {
    let challenge = format!("Bearer realm=\"{realm}\",service=\"registry\"");
    Reply::new(401, "{}").with("WWW-Authenticate", &challenge)
}

fn is_for_token(asked: &Asked) -> bool {
    asked.path.starts_with("/token")
}

/// A server that is its own realm.
fn with_own_realm(answer: impl Fn(&Asked, String) -> Reply + Send + Sync + 'static) -> Site {
    let address = std::sync::Arc::new(std::sync::OnceLock::<String>::new());
    let known = address.clone();
    let site =
        Site::new(move |asked| answer(asked, format!("http://{}/token", known.get().unwrap())));
    address.set(site.address.clone()).unwrap();
    site
}

/// More than the socket buffers on both ends hold, and more than any limit.
const TAKEN: u64 = 64 << 20;

fn answers_without_end() {
    let bed = Bed::new();
    let manifest = Site::new(|_| Reply::endless(200, b" "));
    pull(&bed, &manifest).code(3).says("its manifest is longer than 4194304 bytes");
    let promised = Site::new(|_| Reply::endless(200, b" ").with("Content-Length", "5000000000"));
    pull(&bed, &promised).code(3).says("its manifest is longer than");
    let refusal = Site::new(|_| Reply::endless(403, b"no "));
    pull(&bed, &refusal).code(3).says("answers 403: no no");
    let token = with_own_realm(|asked, realm| match is_for_token(asked) {
        true => Reply::endless(200, b" "),
        false => refuse(&realm),
    });
    pull(&bed, &token).code(3).says("its answer with a token is longer than");
    let refused_token = with_own_realm(|asked, realm| match is_for_token(asked) {
        true => Reply::endless(403, b"no "),
        false => refuse(&realm),
    });
    pull(&bed, &refused_token).code(3).says("does not let us in").says("answers 403: no no");
    for site in [manifest, promised, refusal, token, refused_token] {
        assert!(site.sent() < TAKEN, "{} bytes were taken", site.sent());
    }
}

fn tokens_that_are_none() {
    for (answer, wanted) in [
        (json!({"token": "a\r\nX-Evil: b"}).to_string(), "has characters that no token has"),
        (json!({"token": "a\u{0}b"}).to_string(), "has characters that no token has"),
        (json!({"token": "x".repeat(70_000)}).to_string(), "is longer than 65536 bytes"),
        (json!({"token": ""}).to_string(), "is not in its answer"),
        (json!({"token": 7}).to_string(), "is not in its answer"),
        ("[]".to_owned(), "is not in its answer"),
        ("<html>".to_owned(), "is not in its answer"),
    ] {
        let bed = Bed::new();
        let site = with_own_realm(move |asked, realm| match is_for_token(asked) {
            true => Reply::new(200, answer.clone()),
            false => refuse(&realm),
        });
        pull(&bed, &site).code(3).says(wanted);
    }
}

/// A token for everyone and one for users who have logged in; tokens expire, and transfers break.
fn a_registry_that_gives_tokens() {
    let bed = Bed::new();
    let image = Image::new();
    let (tokens, breaks) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let site = with_own_realm(move |asked, realm| {
        if is_for_token(asked) {
            assert!(asked.path.contains("scope=repository%3Asome%2Fimage%3Apull"), "{asked:?}");
            assert!(asked.path.contains("service=registry"), "{asked:?}");
            let number = tokens.fetch_add(1, Ordering::Relaxed);
            return Reply::new(200, json!({"access_token": format!("t{number}")}).to_string());
        }
        // The first is valid for documents, but not for layers.
        let is_layer = asked.path.contains(&digest(&image.layer));
        let wanted = if is_layer { "Bearer t1" } else { "Bearer t0" };
        if asked.authorization.as_deref() != Some(wanted) {
            return refuse(&realm);
        }
        let reply = image.answer(asked);
        match is_layer && breaks.fetch_add(1, Ordering::Relaxed) < 2 {
            true => reply.broken_after(10_000),
            false => reply,
        }
    });
    let basic = log_in(&bed, &site.address);
    pull(&bed, &site).code(0);
    let asked = site.asked();
    let at = |path: &str| -> Vec<_> {
        asked.iter().filter(|asked| asked.path.contains(path)).cloned().collect()
    };
    assert!(at("/token").iter().all(|asked| asked.authorization.as_ref() == Some(&basic)));
    assert_eq!(at("/token").len(), 2);
    // The password is sent nowhere else.
    assert!(at("/v2/").iter().all(|asked| asked.authorization.as_ref() != Some(&basic)));
    let layer = digest(&Image::new().layer);
    let begun: Vec<usize> = at(&layer).iter().map(|asked| asked.from).collect();
    assert_eq!(begun, [0, 0, 10_000, 20_000]);
}

/// Every token is refused, and a new one is always offered.
fn a_registry_that_refuses_every_token() {
    let bed = Bed::new();
    let tokens = AtomicUsize::new(0);
    let site = with_own_realm(move |asked, realm| match is_for_token(asked) {
        true => {
            let number = tokens.fetch_add(1, Ordering::Relaxed);
            Reply::new(200, json!({"token": format!("t{number}")}).to_string())
        }
        false => refuse(&realm),
    });
    pull(&bed, &site).code(3).says("does not give it to us");
    assert_eq!(site.asked().len(), 3);
}

/// No redirect of a manifest leads to plain HTTP, to this machine, or to its neighbours.
fn manifests_led_elsewhere() {
    let other = Site::new(|asked| Image::new().answer(asked));
    let listens = other.address.clone();
    for (to, why) in [
        (format!("http://{listens}/v2/some/image/manifests/one"), "is not encrypted"),
        ("http://169.254.169.254/latest/meta-data/".to_owned(), "is not encrypted"),
        ("https://169.254.170.2/".to_owned(), "a loopback or link-local address"),
        (format!("https://{listens}/"), "a loopback or link-local address"),
        ("http://registry.example/".to_owned(), "is not encrypted"),
        ("file:///etc/passwd".to_owned(), "is not encrypted"),
    ] {
        let bed = Bed::new();
        let shown = to.split('/').take(3).collect::<Vec<_>>().join("/");
        let site = Site::new(move |_| Reply::redirect(&to));
        pull(&bed, &site).code(3).says(&format!("it redirects to {shown}")).says(why);
    }
    assert!(other.asked().is_empty(), "{:?}", other.asked());
    // In circles.
    let bed = Bed::new();
    let site = Site::new(|asked| Reply::redirect(&format!("{}x", asked.path)));
    pull(&bed, &site).code(3).says("it redirects more than 5 times");
    // A registry on this machine may redirect within it.
    let image = Image::new();
    let site = Site::new(move |asked| match asked.path.ends_with("/one") {
        true => Reply::redirect("/v2/moved/manifests/one?x"),
        false => image.answer(asked),
    });
    pull(&bed, &site).code(0);
}

/// Layers may be on another host, which gets no credentials.
fn blobs_led_elsewhere() {
    let bed = Bed::new();
    let storage = Site::at("127.0.0.2", |asked| Image::new().answer(asked));
    let place = storage.address.clone();
    let (image, realm) = (Image::new(), "Basic realm=\"r\"");
    let site = Site::new(move |asked| match asked.authorization {
        None => Reply::new(401, "{}").with("WWW-Authenticate", realm),
        Some(_) if asked.path.contains("/blobs/") => {
            Reply::redirect(&format!("http://{place}{}", asked.path))
        }
        Some(_) => image.answer(asked),
    });
    let basic = log_in(&bed, &site.address);
    pull(&bed, &site).code(0);
    assert!(site.asked().iter().any(|asked| asked.authorization.as_ref() == Some(&basic)));
    assert_eq!(storage.asked().len(), 2);
    assert!(storage.asked().iter().all(|asked| asked.authorization.is_none()));
    for to in ["http://169.254.169.254", "http://example.org", "https://169.254.170.23"] {
        let bed = Bed::new();
        let image = Image::new();
        let site = Site::new(move |asked| match asked.path.contains("/blobs/") {
            true => Reply::redirect(&format!("{to}{}", asked.path)),
            false => image.answer(asked),
        });
        pull(&bed, &site).code(3).says(&format!("it redirects to {to}"));
    }
}

/// No token is requested and no password sent over plain HTTP or to an address of this machine
/// only.
fn realms_elsewhere() {
    let other = Site::at("127.0.0.2", |_| Reply::new(200, "{\"token\": \"t\"}"));
    for realm in [
        format!("http://{}/token", other.address),
        format!("https://{}/token", other.address),
        "http://169.254.169.254/token".to_owned(),
        "http://auth.example/token".to_owned(),
        "https://alice@auth.example/token".to_owned(),
    ] {
        let bed = Bed::new();
        let shown = realm.replace("alice@", "").split('/').take(3).collect::<Vec<_>>().join("/");
        let site = Site::new(move |_| refuse(&realm));
        log_in(&bed, &site.address);
        pull(&bed, &site).code(3).says(&format!("it names {shown} for tokens"));
        assert!(site.asked().iter().all(|asked| asked.authorization.is_none()));
    }
    assert!(other.asked().is_empty(), "{:?}", other.asked());
    let bed = Bed::new();
    let site = Site::new(|_| refuse("an invalid address"));
    pull(&bed, &site).code(3).says("it names no address for tokens");
}

fn a_token_service_that_leads_elsewhere() {
    let bed = Bed::new();
    let other = Site::new(|_| Reply::new(200, "{\"token\": \"t\"}"));
    let place = format!("http://{}/token", other.address);
    let site = with_own_realm(move |asked, realm| match is_for_token(asked) {
        true => Reply::redirect(&place),
        false => refuse(&realm),
    });
    log_in(&bed, &site.address);
    pull(&bed, &site).code(3).says("a token service may not redirect elsewhere");
    assert!(other.asked().is_empty(), "{:?}", other.asked());
}
