//! Whether the environment has what a service needs, decided before the first request.
//!
//! Invariant: the metadata service of an instance is asked only if
//! `COLDFRAME_INSTANCE_CREDENTIALS` says so: elsewhere its address may belong to anyone.

use object_store::ClientConfigKey::AllowHttp;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as S3};
use object_store::azure::{AzureConfigKey as Azure, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey as Gcs};

/// What is missing, and what to set.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Missing {
    /// No credentials of any kind.
    #[error("no credentials: set {set}, or COLDFRAME_INSTANCE_CREDENTIALS=true to ask {asked}")]
    Credentials {
        /// The variables.
        set: &'static str,
        /// Who else has credentials.
        asked: &'static str,
    },
    /// One half of a pair.
    #[error("no credentials: {set} is set, but {missing} is not, or is empty")]
    Half {
        /// The variable that is there.
        set: &'static str,
        /// The one that is not.
        missing: &'static str,
    },
    /// An endpoint without TLS.
    #[error("the endpoint {endpoint} has no TLS: set {set}=true to allow that")]
    Tls {
        /// The endpoint.
        endpoint: String,
        /// The variable.
        set: &'static str,
    },
}

/// The variables of the environment that say something: one that is set to nothing is not set.
fn set(prefix: &'static str) -> impl Iterator<Item = (String, String)> {
    let variables = std::env::vars_os().filter_map(|(key, value)| {
        let key = key.into_string().ok()?;
        let value = value.into_string().ok()?;
        Some((key, value))
    });
    variables.filter_map(move |(key, value)| {
        let is_set = key.starts_with(prefix) && !value.trim().is_empty();
        is_set.then(|| (key.to_ascii_lowercase(), value))
    })
}

/// A variable that is set to something.
fn one(name: &str) -> Option<String> {
    let value = std::env::var(name).ok();
    value.filter(|value| !value.trim().is_empty())
}

/// What `AWS_*` say: as [`AmazonS3Builder::from_env`], which takes empty ones for credentials.
pub(crate) fn s3_from_env() -> AmazonS3Builder {
    let builder = AmazonS3Builder::new();
    set("AWS_").fold(builder, |builder, (key, value)| match key.parse() {
        Ok(key) => builder.with_config(key, value),
        Err(_) => builder,
    })
}

/// What `GOOGLE_*` and `SERVICE_ACCOUNT` say, likewise.
pub(crate) fn gcs_from_env() -> GoogleCloudStorageBuilder {
    let builder = GoogleCloudStorageBuilder::new();
    let builder = match one("SERVICE_ACCOUNT") {
        Some(path) => builder.with_service_account_path(path),
        None => builder,
    };
    set("GOOGLE_").fold(builder, |builder, (key, value)| match key.parse() {
        Ok(key) => builder.with_config(key, value),
        Err(_) => builder,
    })
}

/// What `AZURE_*` and `IDENTITY_ENDPOINT` say, likewise.
pub(crate) fn azure_from_env() -> MicrosoftAzureBuilder {
    let builder = MicrosoftAzureBuilder::new();
    let builder = set("AZURE_").fold(builder, |builder, (key, value)| match key.parse() {
        Ok(key) => builder.with_config(key, value),
        Err(_) => builder,
    });
    match one("IDENTITY_ENDPOINT") {
        Some(endpoint) => builder.with_msi_endpoint(endpoint),
        None => builder,
    }
}

pub(crate) fn asks_metadata() -> bool {
    let value = std::env::var("COLDFRAME_INSTANCE_CREDENTIALS");
    value.is_ok_and(|value| is_true(&value))
}

fn is_true(value: &str) -> bool {
    matches!(
        value.to_ascii_lowercase().as_str(),
        "1" | "true" | "yes" | "on" | "y"
    )
}

fn is_on(value: Option<String>) -> bool {
    value.is_some_and(|value| is_true(&value))
}

fn check_tls(
    endpoint: Option<String>,
    allow: Option<String>,
    set: &'static str,
) -> Result<(), Missing> {
    match endpoint.filter(|endpoint| endpoint.starts_with("http://")) {
        Some(endpoint) if !is_on(allow) => Err(Missing::Tls { endpoint, set }),
        _ => Ok(()),
    }
}

pub(crate) fn of_s3(builder: &AmazonS3Builder) -> Result<(), Missing> {
    let value = |key: S3| builder.get_config_value(&key);
    let both = |one: S3, other: S3| value(one).is_some() && value(other).is_some();
    check_tls(
        value(S3::S3Endpoint).or(value(S3::Endpoint)),
        value(S3::Client(AllowHttp)),
        "AWS_ALLOW_HTTP",
    )?;
    let is_there = both(S3::AccessKeyId, S3::SecretAccessKey)
        || both(S3::WebIdentityTokenFile, S3::RoleArn)
        || value(S3::ContainerCredentialsRelativeUri).is_some()
        || both(
            S3::ContainerCredentialsFullUri,
            S3::ContainerAuthorizationTokenFile,
        )
        || is_on(value(S3::SkipSignature));
    if is_there || asks_metadata() {
        return Ok(());
    }
    let (id, secret) = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY");
    let half = |set, missing| Err(Missing::Half { set, missing });
    match (value(S3::AccessKeyId), value(S3::SecretAccessKey)) {
        (Some(_), None) => return half(id, secret),
        (None, Some(_)) => return half(secret, id),
        _ => {}
    }
    Err(Missing::Credentials {
        set: "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (profiles in ~/.aws are not read)",
        asked: "the instance metadata service",
    })
}

pub(crate) fn of_gcs(builder: &GoogleCloudStorageBuilder) -> Result<(), Missing> {
    let value = |key: Gcs| builder.get_config_value(&key);
    // Its builder allows that by default.
    let allow = one("GOOGLE_ALLOW_HTTP");
    check_tls(value(Gcs::BaseUrl), allow, "GOOGLE_ALLOW_HTTP")?;
    let home = std::env::var_os("HOME").map(std::path::PathBuf::from);
    let default = home.map(|home| home.join(".config/gcloud/application_default_credentials.json"));
    let is_there = value(Gcs::ServiceAccount).is_some()
        || value(Gcs::ServiceAccountKey).is_some()
        || value(Gcs::ApplicationCredentials).is_some()
        || is_on(value(Gcs::SkipSignature))
        || default.is_some_and(|path| path.exists());
    if is_there || asks_metadata() {
        return Ok(());
    }
    Err(Missing::Credentials {
        set: "GOOGLE_APPLICATION_CREDENTIALS or GOOGLE_SERVICE_ACCOUNT",
        asked: "the metadata server",
    })
}

pub(crate) fn of_azure(builder: &MicrosoftAzureBuilder) -> Result<(), Missing> {
    let value = |key: Azure| builder.get_config_value(&key);
    let has = |key: Azure| value(key).is_some();
    check_tls(
        value(Azure::Endpoint),
        value(Azure::Client(AllowHttp)),
        "AZURE_ALLOW_HTTP",
    )?;
    let is_client = has(Azure::ClientId) && has(Azure::AuthorityId);
    let is_fabric = has(Azure::FabricTokenServiceUrl)
        && has(Azure::FabricWorkloadHost)
        && has(Azure::FabricSessionToken)
        && has(Azure::FabricClusterIdentifier);
    // A kind that is named is looked for by the client, which says what it lacks.
    let kind = value(Azure::CredentialType).filter(|kind| kind != "auto");
    let is_named = kind.is_some_and(|kind| kind != "managed_identity");
    let is_there = is_named
        || is_fabric
        || is_on(value(Azure::UseEmulator))
        || is_on(value(Azure::SkipSignature))
        || is_on(value(Azure::UseAzureCli))
        || has(Azure::AccessKey)
        || has(Azure::SasKey)
        || has(Azure::Token)
        || is_client && (has(Azure::ClientSecret) || has(Azure::FederatedTokenFile));
    if is_there || asks_metadata() {
        return Ok(());
    }
    Err(Missing::Credentials {
        set: "AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_SAS_KEY, or AZURE_CLIENT_ID with \
              AZURE_TENANT_ID and AZURE_CLIENT_SECRET",
        asked: "for a managed identity",
    })
}
