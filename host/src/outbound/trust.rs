//! Whose certificates are believed: those under the system's roots, and those under roots that the operator adds.
//!
//! Files are read whole and in bounds, and each of them must have a certificate. No client certificates; no way to believe everybody.

use hyper_rustls::ConfigBuilderExt as _;
use rustls::client::WantsClientCert;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why additional roots cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadRoots {
    /// Not PEM.
    #[error("the additional root certificates are not in PEM form")]
    Form(#[source] pem::Error),
    /// PEM, but no certificate in it.
    #[error("there is no certificate among the additional root certificates; give at least one, or none at all")]
    Empty,
    /// A certificate that cannot be a root.
    #[error("one of the additional root certificates cannot be used")]
    Certificate(#[source] rustls::Error),
}

/// The largest file of root certificates.
const LARGEST: u64 = 1 << 20;

/// Additional root certificates, as PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roots(Vec<u8>);

impl Roots {
    /// Reads these files.
    ///
    /// # Errors
    /// For each file that cannot be used: which, and a sentence why.
    pub fn read(files: &[PathBuf]) -> Result<Self, Vec<String>> {
        let (mut pem, mut wrong) = (Vec::new(), Vec::new());
        for file in files {
            match certificates(file) {
                Ok(bytes) => pem.extend([&bytes[..], b"\n"].concat()),
                Err(why) => wrong.push(format!("{} cannot be used: {why}", file.display())),
            }
        }
        if wrong.is_empty() { Ok(Self(pem)) } else { Err(wrong) }
    }

    /// All of them.
    pub fn pem(&self) -> &[u8] {
        &self.0
    }
}

fn certificates(file: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |error: std::io::Error| format!("it cannot be read: {error}");
    // To open a pipe would be to wait for whoever writes into it.
    if !std::fs::metadata(file).map_err(unreadable)?.is_file() {
        return Err("it is not a file".into());
    }
    let mut bytes = Vec::new();
    let open = std::fs::File::open(file).map_err(unreadable)?;
    open.take(LARGEST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST {
        return Err("it is larger than 1 MiB".into());
    }
    let trust = if bytes.is_empty() { Err(BadRoots::Empty) } else { Trust::in_these(&bytes) };
    match trust {
        Ok(_) => Ok(bytes),
        Err(BadRoots::Empty) => Err("there is no certificate in it; it must be PEM, with BEGIN CERTIFICATE".into()),
        Err(BadRoots::Form(cause)) => Err(format!("it is not PEM: {cause}")),
        Err(BadRoots::Certificate(cause)) => Err(format!("one of its certificates cannot be a root: {cause}")),
    }
}

/// What TLS connections are made with.
pub(super) struct Trust {
    /// One for each set of roots; a certificate is believed if any of them believes it.
    sets: Vec<Arc<ClientConfig>>,
    nobody: Arc<ClientConfig>,
}

impl Trust {
    /// The system's roots (`SSL_CERT_FILE` and `SSL_CERT_DIR` say where else they are), and those in some PEM.
    pub(super) fn load(additional: &[u8]) -> Result<Self, BadRoots> {
        let mut trust = Self::in_these(additional)?;
        match builder().with_native_roots() {
            Ok(builder) => trust.sets.insert(0, finished(builder)),
            Err(error) if trust.sets.is_empty() => tracing::warn!(
                %error,
                "no root certificate was found, so policies can ask nobody over TLS; install the system's CA certificates, or name a file of them in SSL_CERT_FILE"
            ),
            Err(_) => {}
        }
        Ok(trust)
    }

    /// The roots in some PEM alone; none in no bytes.
    pub(super) fn in_these(pem: &[u8]) -> Result<Self, BadRoots> {
        let nobody = finished(builder().with_root_certificates(RootCertStore::empty()));
        if pem.is_empty() {
            return Ok(Self { sets: Vec::new(), nobody });
        }
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots.add(certificate.map_err(BadRoots::Form)?).map_err(BadRoots::Certificate)?;
        }
        if roots.is_empty() {
            return Err(BadRoots::Empty);
        }
        Ok(Self { sets: vec![finished(builder().with_root_certificates(roots))], nobody })
    }

    /// What connections to an origin are tried with, one after the other; nothing where nobody can be believed.
    pub(super) fn for_origin(&self, tls: bool) -> Vec<Arc<ClientConfig>> {
        // Without TLS it is never asked.
        if tls { self.sets.clone() } else { vec![self.nobody.clone()] }
    }
}

fn builder() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has what TLS 1.2 and 1.3 need")
}

fn finished(builder: ConfigBuilder<ClientConfig, WantsClientCert>) -> Arc<ClientConfig> {
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}
