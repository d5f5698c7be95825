//! Encrypted connections to PostgreSQL by rustls, with the modes of libpq.
//!
//! | `sslmode` | encrypted | the certificate must come from a known authority | and be that of the host |
//! |---|---|---|---|
//! | `disable` | no | | |
//! | `prefer` (default; `allow` is the same) | if the server can | no | no |
//! | `require` | yes | only with `sslrootcert` | no |
//! | `verify-ca` | yes | yes | no |
//! | `verify-full` | yes | yes | yes |
//!
//! A server's certificate must name its hosts in `subjectAltName`; the common name alone, long deprecated, does not count.
//! Sockets of this machine are never encrypted, as PostgreSQL has it.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::{Context as _, bail, ensure};
use logweir_engine::error::Environment;
use postgres::Socket;
use postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use sha2::Digest as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    self, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use super::dsn::Parts;

/// How a connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mode {
    /// Never encrypted.
    Disable,
    /// Encrypted if the server can.
    Prefer,
    /// Encrypted or not at all, to whoever answers.
    Require,
    /// And the certificate is of a known authority.
    VerifyCa,
    /// And it is that of the host.
    VerifyFull,
}

impl Mode {
    const ALL: [(&'static str, Self); 6] = [
        ("disable", Self::Disable),
        ("allow", Self::Prefer),
        ("prefer", Self::Prefer),
        ("require", Self::Require),
        ("verify-ca", Self::VerifyCa),
        ("verify-full", Self::VerifyFull),
    ];

    fn parse(text: &str) -> anyhow::Result<Self> {
        let found = Self::ALL.iter().find(|(name, _)| *name == text);
        let names = || Self::ALL.map(|(name, _)| name).join(", ");
        Ok(found.with_context(|| format!("sslmode is `{text}`, which is none of {}", names()))?.1)
    }
}

/// Checks a mode that stands in a parameter.
///
/// # Errors
/// There is no such mode.
pub(super) fn check_mode(mode: Option<&str>) -> anyhow::Result<()> {
    mode.map_or(Ok(()), |text| Mode::parse(text).map(drop))
}

/// What to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Roots {
    /// Nothing was said, and there is no `~/.postgresql/root.crt`.
    None,
    /// Certificates in a file.
    File(PathBuf),
    /// The authorities that this machine trusts.
    System,
}

/// How to protect a connection, as an address and the environment say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Options {
    mode: Mode,
    roots: Roots,
    /// The client's certificate and its key.
    client: Option<(PathBuf, PathBuf)>,
    /// Files of certificates to look for with `sslrootcert=system`, before the usual places.
    bundle: Option<PathBuf>,
}

impl Options {
    /// Reads the options of an address, then `PGSSLMODE`, `PGSSLROOTCERT`, `PGSSLCERT`, `PGSSLKEY`, then the files in
    /// `~/.postgresql/` that libpq takes.
    ///
    /// # Errors
    /// They contradict each other.
    pub(super) fn read(parts: &Parts, env: &BTreeMap<String, String>) -> anyhow::Result<Self> {
        let set = |name: &str| env.get(name).filter(|v| !v.is_empty()).cloned();
        let of = |own: &str, variable: &str| {
            parts.get(own).filter(|v| !v.is_empty()).map(str::to_owned).or_else(|| set(variable))
        };
        let usual =
            |name: &str| set("HOME").map(|home| Path::new(&home).join(".postgresql").join(name)).filter(|p| p.exists());
        let mut mode = of("sslmode", "PGSSLMODE").map(|text| Mode::parse(&text)).transpose()?;
        let roots = match of("sslrootcert", "PGSSLROOTCERT") {
            Some(text) if text == "system" => {
                let strict = *mode.get_or_insert(Mode::VerifyFull);
                ensure!(
                    strict == Mode::VerifyFull,
                    "sslrootcert=system needs sslmode=verify-full: anyone can get a certificate of a public authority"
                );
                Roots::System
            }
            Some(path) => Roots::File(PathBuf::from(path)),
            None => usual("root.crt").map_or(Roots::None, Roots::File),
        };
        let mode = mode.unwrap_or(Mode::Prefer);
        if mode >= Mode::VerifyCa && roots == Roots::None {
            bail!(
                "sslmode=verify-ca and verify-full need sslrootcert: the file with the certificate of the authority that signed \
                 the server's, or `system`"
            );
        }
        let client = match (of("sslcert", "PGSSLCERT"), of("sslkey", "PGSSLKEY")) {
            (Some(certificate), Some(key)) => Some((PathBuf::from(certificate), PathBuf::from(key))),
            (None, None) => usual("postgresql.crt").zip(usual("postgresql.key")),
            _ => bail!("sslcert and sslkey go together"),
        };
        Ok(Self { mode, roots, client, bundle: set("SSL_CERT_FILE").map(PathBuf::from) })
    }

    /// Nothing is encrypted: sockets of this machine, whatever the mode.
    pub(super) fn off() -> Self {
        Self { mode: Mode::Disable, roots: Roots::None, client: None, bundle: None }
    }

    /// Tells the library which half of the mode it decides: whether the server's "no" to encryption is accepted.
    pub(super) fn apply(&self, config: &mut postgres::Config) {
        use postgres::config::SslMode;
        config.ssl_mode(match self.mode {
            Mode::Disable => SslMode::Disable,
            Mode::Prefer => SslMode::Prefer,
            Mode::Require | Mode::VerifyCa | Mode::VerifyFull => SslMode::Require,
        });
    }

    /// Whether nothing is ever encrypted.
    pub(super) fn is_off(&self) -> bool {
        self.mode == Mode::Disable
    }

    /// Reads certificates and makes what shakes hands.
    ///
    /// # Errors
    /// A file cannot be read or holds no certificate or key.
    pub(super) fn connector(&self) -> anyhow::Result<Connector> {
        let provider = Arc::new(ring::default_provider());
        let roots = match (&self.roots, self.mode) {
            (_, Mode::Disable | Mode::Prefer) | (Roots::None, _) => None,
            (Roots::File(path), _) => Some(certificates(path, "sslrootcert")?),
            (Roots::System, _) => Some(system(self.bundle.as_deref())?),
        };
        let inner = match roots {
            None => None,
            Some(certificates) => {
                let mut store = RootCertStore::empty();
                store.add_parsable_certificates(certificates);
                let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(&provider));
                Some(verifier.build().context("cannot use the certificates of sslrootcert")?)
            }
        };
        let verifier = Verifier { inner, name: self.mode == Mode::VerifyFull, provider: Arc::clone(&provider) };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &self.client {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate, "sslcert")?;
                let bad = || Environment::new(format!("sslkey: cannot read a private key from {}", key.display()));
                let key = PrivateKeyDer::from_pem_file(key).map_err(anyhow::Error::msg).with_context(bad)?;
                builder.with_client_auth_cert(chain, key).context("sslcert and sslkey do not belong together")?
            }
        };
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(Connector(Arc::new(config)))
    }
}

fn certificates(path: &Path, option: &str) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let bad = || Environment::new(format!("{option}: cannot read certificates from {}", path.display()));
    let read = CertificateDer::pem_file_iter(path).map_err(anyhow::Error::msg).with_context(bad)?;
    let all = read.collect::<Result<Vec<_>, _>>().map_err(anyhow::Error::msg).with_context(bad)?;
    ensure!(!all.is_empty(), bad());
    Ok(all)
}

/// The authorities that this machine trusts, from where systems keep them.
fn system(bundle: Option<&Path>) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    const USUAL: [&str; 5] = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        "/etc/ssl/ca-bundle.pem",
        "/etc/ssl/cert.pem",
    ];
    let found = bundle.into_iter().chain(USUAL.iter().map(Path::new)).find(|path| path.exists());
    let missing =
        || Environment::new("sslrootcert=system: this machine has no bundle of certificates; SSL_CERT_FILE names one");
    certificates(found.with_context(missing)?, "sslrootcert=system")
}

/// Judges a server's certificate as the mode says.
struct Verifier {
    /// `None`: any certificate will do.
    inner: Option<Arc<WebPkiServerVerifier>>,
    /// Whether it must be that of the host.
    name: bool,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("chain", &self.inner.is_some()).field("name", &self.name).finish()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(inner) = &self.inner else { return Ok(ServerCertVerified::assertion()) };
        match inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The chain is judged before the name: with a name that does not fit, the rest was in order.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.name => Ok(ServerCertVerified::assertion()),
            judged => judged,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

type Failure = Box<dyn Error + Send + Sync>;

/// Makes handshakes for the PostgreSQL library.
#[derive(Clone)]
pub(super) struct Connector(Arc<ClientConfig>);

impl MakeTlsConnect<Socket> for Connector {
    type Stream = Stream;
    type TlsConnect = Handshake;
    type Error = Failure;

    fn make_tls_connect(&mut self, domain: &str) -> Result<Handshake, Failure> {
        // Without a host name (a socket's path) there is no handshake, and this name is not used.
        let name = if domain.is_empty() { "localhost" } else { domain };
        Ok(Handshake { config: Arc::clone(&self.0), name: ServerName::try_from(name.to_owned())? })
    }
}

/// One handshake to come.
pub(super) struct Handshake {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Stream;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, Failure>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            let stream = TlsConnector::from(self.config).connect(self.name, socket).await?;
            Ok(Stream(Box::new(stream)))
        })
    }
}

/// An encrypted connection.
pub(super) struct Stream(Box<tokio_rustls::client::TlsStream<Socket>>);

impl TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        let certificate = self.0.get_ref().1.peer_certificates().and_then(<[_]>::first);
        match certificate.and_then(|der| end_point(der)) {
            Some(digest) => ChannelBinding::tls_server_end_point(digest),
            None => ChannelBinding::none(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Digest of a certificate by the hash of its signature, SHA-256 in place of weaker ones (RFC 5929, `tls-server-end-point`):
/// it ties the password exchange to this connection. `None` for signatures whose hash is not known here.
fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
    const ECDSA_SHA2: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];
    const ECDSA_SHA1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];
    // Certificate = SEQUENCE { to be signed, SEQUENCE { algorithm, … }, signature }
    let (all, _) = element(certificate, 0x30)?;
    let (_, after) = element(all, 0x30)?;
    let (algorithm, _) = element(after, 0x30)?;
    let (oid, _) = element(algorithm, 0x06)?;
    let bits = match (oid.strip_prefix(RSA), oid.strip_prefix(ECDSA_SHA2)) {
        (Some([4 | 5 | 11]), _) | (_, Some([2])) => 256,
        (Some([12]), _) | (_, Some([3])) => 384,
        (Some([13]), _) | (_, Some([4])) => 512,
        _ if oid == ECDSA_SHA1 => 256,
        _ => return None,
    };
    Some(match bits {
        256 => sha2::Sha256::digest(certificate).to_vec(),
        384 => sha2::Sha384::digest(certificate).to_vec(),
        _ => sha2::Sha512::digest(certificate).to_vec(),
    })
}

/// The content of a DER element with this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = der.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = if length < 0x80 {
        (usize::from(length), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
        if bytes.len() > 4 {
            return None;
        }
        (bytes.iter().fold(0, |n, b| n << 8 | usize::from(*b)), rest)
    };
    (first == tag).then(|| rest.split_at_checked(length)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::dsn;

    fn options(address: &str, pairs: &[(&str, &str)]) -> anyhow::Result<Options> {
        let env = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Options::read(&dsn::split(address)?, &env)
    }

    #[test]
    fn the_address_comes_before_variables_before_the_default() {
        assert_eq!(options("postgres://db/x", &[]).unwrap().mode, Mode::Prefer);
        assert_eq!(options("postgres://db/x", &[("PGSSLMODE", "require")]).unwrap().mode, Mode::Require);
        let given =
            options("postgres://db/x?sslmode=verify-full&sslrootcert=/ca", &[("PGSSLMODE", "require")]).unwrap();
        assert_eq!((given.mode, given.roots), (Mode::VerifyFull, Roots::File("/ca".into())));
        let system = options("postgres://db/x?sslrootcert=system", &[]).unwrap();
        assert_eq!((system.mode, system.roots), (Mode::VerifyFull, Roots::System));
    }

    #[test]
    fn what_cannot_protect_is_refused() {
        let error = |address: &str| options(address, &[]).unwrap_err().to_string();
        assert!(error("host=db sslmode=full").contains("verify-full"), "{}", error("host=db sslmode=full"));
        assert!(error("host=db sslmode=verify-full").contains("sslrootcert"));
        assert!(error("host=db sslmode=require sslrootcert=system").contains("verify-full"));
        assert!(error("host=db sslcert=/a").contains("sslkey"));
        let missing = options("host=db sslmode=verify-ca sslrootcert=/nowhere/ca.pem", &[]).unwrap().connector();
        let error = missing.err().unwrap();
        assert!(Environment::is_cause_of(&error) && error.to_string().contains("/nowhere/ca.pem"), "{error:#}");
    }

    #[test]
    fn elements_of_der_by_hand() {
        let certificate = |oid: &[u8]| {
            let mut algorithm = vec![0x06, oid.len() as u8];
            algorithm.extend(oid);
            let mut inner = vec![0x30, 0x03, 1, 2, 3, 0x30, algorithm.len() as u8];
            inner.extend(&algorithm);
            let mut all = vec![0x30, 0x81, inner.len() as u8];
            all.extend(inner);
            all
        };
        let of = |oid: &[u8]| end_point(&certificate(oid)).map(|digest| digest.len() * 8);
        assert_eq!(of(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11]), Some(256));
        assert_eq!(of(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5]), Some(256));
        assert_eq!(of(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3]), Some(384));
        assert_eq!(of(&[0x2b, 0x65, 0x70]), None);
        assert_eq!(end_point(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0]), None);
    }
}
