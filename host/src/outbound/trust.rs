//! Whose certificates are believed: those under the system's roots, and those under roots that the operator adds.
//!
//! No client certificates; no way to believe everybody.

use hyper_rustls::ConfigBuilderExt as _;
use rustls::client::WantsClientCert;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};
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
