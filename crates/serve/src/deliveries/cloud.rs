//! Clients of AWS with the identity in the host's current files. They never call this endpoint
//! itself.

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

/// Minimum age of clients that may be replaced after a failure.
const DOUBTED: Duration = Duration::from_secs(1);

/// Clients of AWS.
pub(super) struct Cloud {
    pub(super) amazon: Amazon,
    pub(super) s3: S3,
    /// The version of the files that they were made from.
    files: FilesSeen,
    made: Instant,
}

/// A data key, encrypted by AWS KMS.
#[derive(Clone, Debug)]
pub struct SealedKey {
    pub key_id: String,
    pub bytes: Vec<u8>,
    /// The encryption context it is bound to.
    pub context: Value,
    /// The client's Region, where the key was made unless its ARN names another.
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

    /// A client for this service, unless its endpoint leads back here. Keys renewed in AWS's files
    /// apply at once.
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

    /// Notes a failure: the next call loads the credentials again.
    pub(super) fn doubt(&self) {
        let mut known = self.known();
        if known.as_ref().is_some_and(|cloud| cloud.made.elapsed() >= DOUBTED) {
            *known = None;
        }
    }

    /// The web address of an object, for people.
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

    /// The address of a log stream in AWS's console, for people.
    pub fn stream_url(&self, group: &str, stream: &str) -> String {
        let known = self.known().clone();
        let region = known.as_ref().map_or(REGION, |cloud| cloud.amazon.region());
        format!(
            "https://{region}.console.aws.amazon.com/cloudwatch/home?region={region}\
             #logEventViewer:group={group};stream={stream}"
        )
    }

    /// Decrypts a data key with AWS KMS.
    pub async fn decrypt(&self, sealed: SealedKey) -> Result<Zeroizing<Vec<u8>>, String> {
        let failed = |error: &str| format!("Error calling KMS Decrypt API: {error}");
        let amazon = self.of_key(&sealed.key_id, &sealed.region).await;
        let amazon = amazon.map_err(|error| failed(&error))?;
        let sealed =
            Sealed { key_id: &sealed.key_id, bytes: &sealed.bytes, context: sealed.context };
        let key = kms::decrypt(&amazon, &sealed).await;
        key.map_err(|error| failed(&error.to_string()))
    }

    /// Describes a key that a client in this Region names.
    pub async fn describe_key(&self, key_id: &str, region: &str) -> Result<Value, CallError> {
        let amazon = self.of_key(key_id, region).await;
        let amazon = amazon.map_err(|problem| CallError::Unreachable {
            endpoint: "AWS KMS".to_owned(),
            problem,
        })?;
        kms::describe(&amazon, key_id).await
    }

    /// A client in a key's Region.
    async fn of_key(&self, key_id: &str, region: &str) -> Result<Amazon, String> {
        let region = region_of(key_id, region)?;
        let amazon = self.amazon().await.in_region(region);
        self.leads_elsewhere(&amazon, KMS).await.map(|()| amazon)
    }

    /// Refuses an endpoint of runner's own: variables that users set for their clients reach this
    /// program, too.
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

/// Whether a URL leads to one of these addresses, where runner listens.
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
    // An unknown host name is the call's own error.
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

/// Whether an address belongs to this machine: then a socket connected to it has the same local
/// address. Sends nothing.
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
        false => Err(format!("`{}` is not a Region", region.escape_default())),
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
            // An address of this machine, when runner listens on all of them.
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
        // An address reserved for documentation, which belongs to nobody.
        assert!(!is_of_this_machine(IpAddr::from([192, 0, 2, 1])));
        // This machine's outside address, if it has a network.
        let outside = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
            socket.connect("192.0.2.1:1")?;
            socket.local_addr()
        });
        if let Ok(own) = outside {
            assert!(is_of_this_machine(own.ip()), "{own}");
        }
    }
}
