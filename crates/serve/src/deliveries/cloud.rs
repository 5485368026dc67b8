//! AWS as this endpoint calls it: as the host's files say now, and never this endpoint itself.

use super::Deliveries;
use runner_cloud::kms::{self, Sealed};
use runner_cloud::s3::S3;
use runner_cloud::{Amazon, CallError, CloudService, FilesSeen, KMS, REGION, SIMPLE_STORAGE};
use runner_folder::state::live_serve;
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use zeroize::Zeroizing;

/// How long clients last at least that have come to nothing.
const DOUBTED: Duration = Duration::from_secs(1);

/// Clients of AWS.
pub(super) struct Cloud {
    pub(super) amazon: Amazon,
    pub(super) s3: S3,
    /// How the files were that they come from.
    files: FilesSeen,
    made: Instant,
}

/// A data key, as AWS KMS has encrypted it.
#[derive(Clone, Debug)]
pub struct SealedKey {
    pub key_id: String,
    pub bytes: Vec<u8>,
    /// What it is bound to.
    pub context: Value,
    /// The Region of its client, where it was made unless the key's ARN names another.
    pub region: String,
}

impl Deliveries {
    fn known(&self) -> MutexGuard<'_, Option<Arc<Cloud>>> {
        self.cloud.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn amazon(&self) -> Amazon {
        let settings = &self.settings;
        Amazon::load(&settings.identity)
            .await
            .with_endpoint(SIMPLE_STORAGE, &settings.s3_endpoint)
            .with_endpoint(KMS, &settings.kms_endpoint)
    }

    /// AWS for calls of this service, unless it leads back to here. Keys that somebody has renewed in AWS's files are
    /// used from then on.
    pub(super) async fn cloud(&self, service: CloudService) -> Result<Arc<Cloud>, String> {
        let files = tokio::task::spawn_blocking(FilesSeen::now).await;
        let files = files.map_err(|error| error.to_string())?;
        let known = self.known().clone().filter(|cloud| cloud.files == files);
        let cloud = match known {
            Some(cloud) => cloud,
            None => {
                let amazon = self.amazon().await;
                let s3 = S3::new(&amazon);
                let cloud = Arc::new(Cloud { amazon, s3, files, made: Instant::now() });
                *self.known() = Some(Arc::clone(&cloud));
                cloud
            }
        };
        self.leads_elsewhere(&cloud.amazon, service).await.map(|()| cloud)
    }

    /// Something failed: the next call loads the credentials again.
    pub(super) fn doubt(&self) {
        let mut known = self.known();
        if known.as_ref().is_some_and(|cloud| cloud.made.elapsed() >= DOUBTED) {
            *known = None;
        }
    }

    /// Where an object is, for people.
    pub fn object_url(&self, bucket: &str, key: &str) -> String {
        let known = self.known().clone();
        let amazon = known.as_ref().map(|cloud| &cloud.amazon);
        match amazon.and_then(|amazon| amazon.given_endpoint(SIMPLE_STORAGE)) {
            Some(url) => format!("{}/{bucket}/{key}", url.trim_end_matches('/')),
            None => {
                let region = amazon.map_or(REGION, Amazon::region);
                format!("https://s3.{region}.amazonaws.com/{bucket}/{key}")
            }
        }
    }

    /// Where a log stream is, for people: AWS's console.
    pub fn stream_url(&self, group: &str, stream: &str) -> String {
        let known = self.known().clone();
        let region = known.as_ref().map_or(REGION, |cloud| cloud.amazon.region());
        format!(
            "https://{region}.console.aws.amazon.com/cloudwatch/home?region={region}\
             #logEventViewer:group={group};stream={stream}"
        )
    }

    /// Has AWS KMS read a data key.
    pub async fn decrypt(&self, sealed: SealedKey) -> Result<Zeroizing<Vec<u8>>, String> {
        let failed = |error: &str| format!("Error calling KMS Decrypt API: {error}");
        let amazon = self.of_key(&sealed.key_id, &sealed.region).await;
        let amazon = amazon.map_err(|error| failed(&error))?;
        let sealed =
            Sealed { key_id: &sealed.key_id, bytes: &sealed.bytes, context: sealed.context };
        let key = kms::decrypt(&amazon, &sealed).await;
        key.map_err(|error| failed(&error.to_string()))
    }

    /// What AWS KMS says of a key that a client in this Region has named.
    pub async fn describe_key(&self, key_id: &str, region: &str) -> Result<Value, CallError> {
        let amazon = self.of_key(key_id, region).await;
        let amazon = amazon.map_err(|problem| CallError::Unreachable {
            endpoint: "AWS KMS".to_owned(),
            problem,
        })?;
        kms::describe(&amazon, key_id).await
    }

    /// AWS in the Region of a key.
    async fn of_key(&self, key_id: &str, region: &str) -> Result<Amazon, String> {
        let region = region_of(key_id, region)?;
        let amazon = self.amazon().await.in_region(region);
        self.leads_elsewhere(&amazon, KMS).await.map(|()| amazon)
    }

    /// That an endpoint is none of runner's own: what users set for their own clients reaches this program, too.
    async fn leads_elsewhere(&self, amazon: &Amazon, service: CloudService) -> Result<(), String> {
        let Some(url) = amazon.given_endpoint(service) else { return Ok(()) };
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let home = self.home.clone();
        let serving = tokio::task::spawn_blocking(move || live_serve(&home)).await.ok().flatten();
        own.extend(serving.and_then(|serving| serving.address.parse::<SocketAddr>().ok()));
        match leads_back(&url, own).await {
            true => Err(format!(
                "the endpoint {url} is runner's own, not AWS's: start runner without AWS_ENDPOINT_URL, or name AWS's \
                 with {}",
                service.variable()
            )),
            false => Ok(()),
        }
    }
}

/// Whether an endpoint is at one of these addresses, where runner listens.
pub async fn leads_back(url: &str, mut own: Vec<SocketAddr>) -> bool {
    let Ok(uri) = url.parse::<http::Uri>() else { return false };
    let Some(host) = uri.host() else { return false };
    let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    let port = uri.port_u16().unwrap_or(default);
    own.retain(|address| address.port() == port);
    if own.is_empty() {
        return false;
    }
    let host = host.trim_start_matches('[').trim_end_matches(']');
    // A name that leads nowhere is an error of the call.
    let Ok(found) = tokio::net::lookup_host((host, port)).await else { return false };
    let found: Vec<SocketAddr> = found.collect();
    found.iter().any(|found| own.iter().any(|own| is_same(*own, *found, is_of_this_machine)))
}

/// Whether a connection to `found` arrives at `own`.
fn is_same(own: SocketAddr, found: SocketAddr, is_of_here: impl Fn(IpAddr) -> bool) -> bool {
    let (own_ip, found_ip) = (own.ip().to_canonical(), found.ip().to_canonical());
    let is_all = own_ip.is_unspecified();
    let is_loopback = found_ip.is_loopback() && (own_ip.is_loopback() || is_all);
    let is_reached = || is_all && is_of_here(found_ip);
    own.port() == found.port()
        && (own_ip == found_ip || is_loopback || found_ip.is_unspecified() || is_reached())
}

/// Whether an address is one of this machine's: what is sent there comes from there. Nothing is sent.
fn is_of_this_machine(ip: IpAddr) -> bool {
    let any: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let from = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((ip, 1))?;
        socket.local_addr()
    });
    from.is_ok_and(|from| from.ip() == ip)
}

/// The Region of a key: its ARN's, else the client's.
fn region_of<'a>(key_id: &'a str, region: &'a str) -> Result<&'a str, String> {
    let of_arn = key_id.strip_prefix("arn:").and_then(|rest| rest.split(':').nth(2));
    let region = of_arn.filter(|region| !region.is_empty()).unwrap_or(region);
    // The Region becomes part of a host name, and a client can sign for any text.
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    match !region.is_empty() && region.len() <= 32 && region.chars().all(is_part) {
        true => Ok(region),
        false => Err(format!("`{}` is no Region", region.escape_default())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_lead_nowhere_else() {
        assert_eq!(region_of("alias/a", "eu-west-1").as_deref(), Ok("eu-west-1"));
        let arn = "arn:aws:kms:us-gov-east-1:1:key/k";
        assert_eq!(region_of(arn, "eu-west-1").as_deref(), Ok("us-gov-east-1"));
        for (key, region) in [
            ("arn:aws:kms:evil.example/x:1:key/k", "eu-west-1"),
            ("arn:aws:kms:x@10.0.0.5:1:key/k", "eu-west-1"),
            ("alias/a", "evil.example?x"),
            ("alias/a", "evil.example#"),
            ("alias/a", ""),
        ] {
            assert!(region_of(key, region).is_err(), "{key} {region}");
        }
    }

    #[test]
    fn addresses_that_are_the_same() {
        let is_of_here = |ip: IpAddr| ip == IpAddr::from([10, 0, 0, 1]);
        for (own, found, wanted) in [
            ("127.0.0.1:4599", "127.0.0.1:4599", true),
            ("127.0.0.1:4599", "[::1]:4599", true),
            ("0.0.0.0:4599", "127.0.0.1:4599", true),
            ("127.0.0.1:4599", "0.0.0.0:4599", true),
            ("[::ffff:127.0.0.1]:4599", "127.0.0.1:4599", true),
            ("127.0.0.1:4599", "127.0.0.1:4566", false),
            ("127.0.0.1:4599", "10.0.0.1:4599", false),
            // Of this machine, which listens at all of its addresses.
            ("0.0.0.0:4599", "10.0.0.1:4599", true),
            ("[::]:4599", "10.0.0.1:4599", true),
            ("0.0.0.0:4599", "10.0.0.1:4566", false),
            ("0.0.0.0:4599", "10.0.0.2:4599", false),
        ] {
            let address = |text: &str| text.parse().expect("an address");
            let is_one = is_same(address(own), address(found), is_of_here);
            assert_eq!(is_one, wanted, "{own} {found}");
        }
    }

    #[test]
    fn addresses_of_this_machine() {
        assert!(is_of_this_machine(Ipv4Addr::LOCALHOST.into()));
        // One that is kept for documents, and nobody's.
        assert!(!is_of_this_machine(IpAddr::from([192, 0, 2, 1])));
        // The one that this machine is known by outside, where it is connected.
        let outside = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
            socket.connect("192.0.2.1:1")?;
            socket.local_addr()
        });
        if let Ok(own) = outside {
            assert!(is_of_this_machine(own.ip()), "{own}");
        }
    }
}
