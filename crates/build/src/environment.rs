//! The initial environment of a build: its variables, its secrets, its sources.
//!
//! Used by `build`. `core::env` gets the layers and decides which takes precedence.

use super::identity::BuildIdentity;
use super::{BatchMembership, BegunBuild, BuildError, certificates, stubs};
use crate::credentials;
use crate::credentials::CredentialEndpoint;
use crate::driver::SignalRequests;
use crate::driver::inbox::Inbox;
use crate::source;
use crate::source::SourceFacts;
use runner_cloud::{ACCOUNT, Amazon, REGION};
use runner_core::env::{self, EnvLayers, Variables};
use runner_core::event::{Notice, SecondarySource};
use runner_core::machine::MachineInput;
use runner_core::mask::{self, Secrets, SharedSecrets};
use runner_core::plan::ContainerPaths;
use runner_engine::SourceMount;
use runner_engine::home_tools::HomeTools;
use runner_engine::image::Image;
use runner_host::clock;
use runner_wire::abi::{CREDENTIAL_NAME, GIT_CREDENTIALS};
use std::collections::BTreeMap;
use std::path::PathBuf;
use tokio::sync::watch;

/// A build's initial environment.
pub(super) struct Environment {
    /// The layers of its variables.
    pub(super) layers: EnvLayers,
    /// Values that must not be shown.
    pub(super) secrets: SharedSecrets,
    /// The sources, primary one first.
    pub(super) sources: Vec<BuildSource>,
    /// The port on this machine's loopback that serves the build.
    pub(super) loopback_port: Option<u16>,
}

impl BegunBuild {
    /// Collects the environment, and starts the endpoint for the build's credentials.
    pub(super) async fn environment(
        &self,
        places: &ContainerPaths,
        inbox: &Inbox,
        mut asked: watch::Receiver<SignalRequests>,
    ) -> Result<Environment, BuildError> {
        let sources = self.sources(places);
        let mut layers = self.layers(&sources, places);
        let (secrets, short) = self.secrets(&env::compose(layers.clone()))?;
        let secrets = SharedSecrets::new(secrets);
        if !short.is_empty() {
            let text = format!(
                "not masked, because shorter than {} characters: the value of {}",
                mask::MIN_LENGTH,
                short.join(", ")
            );
            inbox.send(MachineInput::Notice(Notice::warning(text))).await;
        }
        let mut loopback_port = None;
        if let Some(identity) = &self.request.values.aws {
            // This may wait for the user, and the driver, which handles signals, does not run yet.
            let endpoint = tokio::select! {
                served = async {
                    credentials::serve(Amazon::load(identity).await, secrets.clone()).await
                } => served?,
                Ok(_) = asked.wait_for(|asked| asked.stops > 0) => return Err(BuildError::Stopped),
            };
            if endpoint.is_long_term {
                let text =
                    "--aws-profile: these are long-term keys; the build gets them as they are";
                inbox.send(MachineInput::Notice(Notice::warning(text.to_owned()))).await;
            }
            loopback_port = Some(endpoint.port);
            layers.managed.extend(credential_variables(endpoint));
        }
        Ok(Environment { layers, secrets, sources, loopback_port })
    }

    /// The sources, primary one first, with their paths in the build.
    fn sources(&self, places: &ContainerPaths) -> Vec<BuildSource> {
        let primary = (None, &self.request.source);
        let secondary = self.request.secondary_sources.iter();
        [primary]
            .into_iter()
            .chain(secondary.map(|(id, dir)| (Some(id.clone()), dir)))
            .enumerate()
            .map(|(number, (id, dir))| {
                let frozen = self.request.member.as_ref().map(|member| member.frozen.get(number));
                let frozen = frozen.flatten();
                BuildSource {
                    id,
                    dir: dir.clone(),
                    frozen: frozen.map(|frozen| frozen.dir.clone()),
                    target: self.identity.source_place(&places.root, number),
                    facts: frozen.map_or_else(|| source::facts(dir), |frozen| frozen.facts.clone()),
                }
            })
            .collect()
    }

    fn layers(&self, sources: &[BuildSource], places: &ContainerPaths) -> EnvLayers {
        let buildspec = match &self.opened.spec {
            Ok(spec) => spec.variables.iter().map(|v| (v.name.clone(), v.value.clone())).collect(),
            Err(_) => Variables::new(),
        };
        let mut managed = managed(&self.identity, &self.request.container.image, sources, places);
        if let Some(BatchMembership { batch, .. }) = &self.request.member {
            let pairs = [
                ("CODEBUILD_BATCH_BUILD_IDENTIFIER", batch.identifier.clone()),
                ("CODEBUILD_BUILD_BATCH_NUMBER", batch.number.to_string()),
            ];
            managed.extend(pairs.map(|(name, value)| (name.to_owned(), value)));
        }
        if let Some((_, stream)) = self.copies().cloudwatch {
            let path = managed.iter_mut().find(|(name, _)| name == "CODEBUILD_LOG_PATH");
            path.into_iter().for_each(|(_, value)| value.clone_from(&stream));
        }
        if self.asks_for_credentials() {
            managed.extend(self.git_variables(places));
        }
        let stubs = format!("{}/readonly/{}", places.root, stubs::DIRECTORY);
        EnvLayers {
            stubs: (!self.request.stubs.is_empty()).then_some(stubs),
            tools: self.opened.home_tools.as_ref().and_then(HomeTools::path),
            helpers: format!("{}/user/bin", places.root),
            gopath: places.source.strip_suffix("/src").unwrap_or(&places.source).to_owned(),
            image: self.image_variables(places),
            buildspec,
            managed,
            overrides: self.request.values.variables.clone(),
        }
    }

    fn asks_for_credentials(&self) -> bool {
        self.opened.spec.as_ref().is_ok_and(|spec| spec.git_credential_helper)
    }

    /// Variables that tell git to use the credential helper, and what the helper needs.
    fn git_variables(&self, places: &ContainerPaths) -> Variables {
        let known: Vec<String> = self
            .opened
            .vault
            .git_credentials()
            .iter()
            .map(|known| format!("https://{}:{}@{}", known.user, known.password, known.host))
            .collect();
        let mut variables = Variables::new();
        if !known.is_empty() {
            variables.push((GIT_CREDENTIALS.to_owned(), known.join("\n")));
        }
        // Not in a file: the location of git's system configuration depends on how git was built.
        let pairs = [
            ("GIT_CONFIG_COUNT", "1".to_owned()),
            ("GIT_CONFIG_KEY_0", "credential.helper".to_owned()),
            ("GIT_CONFIG_VALUE_0", format!("{}/readonly/bin/{CREDENTIAL_NAME}", places.root)),
        ];
        variables.extend(pairs.map(|(name, value)| (name.to_owned(), value)));
        variables
    }

    /// Variables of the image, as far as they are known before the container exists.
    fn image_variables(&self, places: &ContainerPaths) -> Variables {
        let inherited = self.request.container.engine.traits().inherited.iter();
        let mut variables: Variables = inherited
            .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
            .collect();
        let container = &self.request.container;
        if container.engine.traits().chooses_tools && container.image == Image::Host {
            // Debian keeps pip from changing packages installed by apt. Here everything is
            // discarded anyway.
            variables.push(("PIP_BREAK_SYSTEM_PACKAGES".to_owned(), "1".to_owned()));
        }
        if self.request.certificates.is_some() {
            variables.extend(certificates::variables(&places.root));
        }
        variables.extend(self.opened.home_tools.iter().flat_map(|tools| tools.variables.clone()));
        variables
    }

    /// Values that are secret from the start, and variables whose values are too short to mask.
    fn secrets(
        &self,
        variables: &BTreeMap<String, String>,
    ) -> Result<(Secrets, Vec<&str>), BuildError> {
        let fetched = self.opened.spec.iter().flat_map(|spec| {
            let parameters = spec.parameters.iter().map(|variable| &variable.name);
            parameters.chain(spec.secrets.iter().map(|variable| &variable.name))
        });
        let fetched: Vec<&String> = fetched.collect();
        let (mut values, mut short) = (Vec::new(), Vec::new());
        for name in &self.request.values.masked {
            match variables.get(name) {
                Some(value) if value.len() < mask::MIN_LENGTH => short.push(name.as_str()),
                Some(value) => values.push(value.clone().into_bytes()),
                None if fetched.contains(&name) => {}
                None => return Err(BuildError::UnknownMasked { name: name.clone() }),
            }
        }
        // Nobody means these to be read.
        let own = ALWAYS_MASKED.iter().filter_map(|name| variables.get(*name));
        values.extend(own.map(|value| value.clone().into_bytes()));
        values.extend(variables.iter().filter_map(|(name, value)| proxy_password(name, value)));
        let git = self.opened.vault.git_credentials();
        values.extend(git.into_iter().map(|known| known.password.into_bytes()));
        let secrets = Secrets::new(values).map_err(|error| BuildError::Mask(error.to_string()))?;
        Ok((secrets, short))
    }
}

/// Variables whose values are always secret, whatever their source.
const ALWAYS_MASKED: [&str; 3] =
    ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN"];

/// The password in a proxy's address.
fn proxy_password(name: &str, value: &str) -> Option<Vec<u8>> {
    let name = name.to_ascii_lowercase();
    let (_, rest) = value.split_once("://").filter(|_| name.ends_with("_proxy"))?;
    let (credentials, _) = rest.split('/').next()?.rsplit_once('@')?;
    let (_, password) = credentials.split_once(':')?;
    Some(password.as_bytes().to_vec())
}

/// A source of the build, with its facts.
pub(super) struct BuildSource {
    /// `None` for the primary source.
    pub(super) id: Option<String>,
    pub(super) dir: PathBuf,
    /// The copy that the build sees instead.
    pub(super) frozen: Option<PathBuf>,
    pub(super) target: PathBuf,
    pub(super) facts: SourceFacts,
}

impl BuildSource {
    /// The source as the record shows it, if it is a secondary one.
    pub(super) fn secondary(&self) -> Option<SecondarySource> {
        Some(SecondarySource {
            identifier: self.id.clone()?,
            location: self.dir.display().to_string(),
            version: self.facts.commit.clone().unwrap_or_default(),
        })
    }

    pub(super) fn mount(self) -> SourceMount {
        SourceMount {
            dir: self.frozen.unwrap_or(self.dir),
            target: self.target,
            extras: self.facts.outside,
            files: self.facts.rewritten,
        }
    }

    /// The source's variables; a secondary source's names end with its identifier.
    fn variables(&self) -> impl Iterator<Item = (String, String)> {
        let facts = &self.facts;
        let version = facts.branch.clone().or_else(|| facts.commit.clone());
        let suffix = self.id.as_ref().map_or_else(String::new, |id| format!("_{id}"));
        [
            ("CODEBUILD_SRC_DIR", self.target.display().to_string()),
            ("CODEBUILD_SOURCE_REPO_URL", facts.url.clone().unwrap_or_default()),
            ("CODEBUILD_SOURCE_VERSION", version.unwrap_or_default()),
        ]
        .into_iter()
        .map(move |(name, value)| (format!("{name}{suffix}"), value))
    }
}

/// Variables that CodeBuild's agent sets, if they have a value here; not those that name services
/// on AWS's own hosts.
fn managed(
    identity: &BuildIdentity,
    image: &Image,
    sources: &[BuildSource],
    places: &ContainerPaths,
) -> Variables {
    let BuildIdentity { uuid, id, arn, number, hostname, initiator } = identity;
    let gopath = places.source.strip_suffix("/src").unwrap_or(&places.source);
    let variables: Vec<(&str, String)> = vec![
        ("AWS_DEFAULT_REGION", REGION.to_owned()),
        ("AWS_REGION", REGION.to_owned()),
        ("CODEBUILD_BUILD_ARN", arn.clone()),
        ("CODEBUILD_BUILD_ID", id.clone()),
        ("CODEBUILD_BUILD_IMAGE", image.to_string()),
        ("CODEBUILD_BUILD_NUMBER", number.to_string()),
        ("CODEBUILD_BUILD_SUCCEEDING", "1".to_owned()),
        (
            "CODEBUILD_BUILD_URL",
            format!(
                "https://{REGION}.console.aws.amazon.com/codebuild/home?region={REGION}\
                     #/builds/{id}/view/new"
            ),
        ),
        ("CODEBUILD_CI", "true".to_owned()),
        ("CODEBUILD_CONTAINER_NAME", "default".to_owned()),
        ("CODEBUILD_GOPATH", gopath.to_owned()),
        ("CODEBUILD_INITIATOR", initiator.clone()),
        ("CODEBUILD_KMS_KEY_ID", format!("arn:aws:kms:{REGION}:{ACCOUNT}:alias/aws/s3")),
        ("CODEBUILD_LAST_EXIT", "0".to_owned()),
        // Set by AWS's own local agent too, for buildspecs that check it.
        ("CODEBUILD_LOCAL_BUILD", "true".to_owned()),
        ("CODEBUILD_LOG_PATH", uuid.to_string()),
        ("CODEBUILD_START_TIME", clock::wall().epoch_millis().to_string()),
        ("HOSTNAME", hostname.clone()),
        ("OLDPWD", format!("{}/readonly", places.root)),
        ("PWD", places.source.clone()),
        ("SHLVL", "2".to_owned()),
    ];
    let commit = sources.first().and_then(|source| source.facts.commit.clone());
    let commit = commit.map(|commit| ("CODEBUILD_RESOLVED_SOURCE_VERSION".to_owned(), commit));
    variables
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .chain(sources.iter().flat_map(BuildSource::variables))
        .chain(commit)
        .collect()
}

/// Variables that tell the build's tools where to get credentials.
fn credential_variables(endpoint: CredentialEndpoint) -> Variables {
    let CredentialEndpoint { url, token, region, .. } = endpoint;
    let variables = [
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", token),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url),
        ("AWS_DEFAULT_REGION", region.clone()),
        ("AWS_REGION", region),
    ];
    variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
