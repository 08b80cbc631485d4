//! TLS in front of the local stores, since the functions meet it on Lambda: a certificate for `localhost`, of a CA that is
//! made for the run.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::NamedTempFile;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::version::TLS13;

const HOST: &str = "localhost";
/// The settings that hold the stores' URLs.
pub(crate) const STORES: [&str; 2] = ["AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL_SECRETS_MANAGER"];
/// Where the functions and the floors look for the certificates of CAs.
const CA_FILE: &str = "SSL_CERT_FILE";
/// As many as the functions have in them on AWS, and that of the run.
const CAS_OF_FUNCTIONS: usize = 5 + 1;
/// Where `boto3` looks.
const CA_FILE_OF_BOTO3: &str = "AWS_CA_BUNDLE";
/// Where Node.js looks for CAs besides those that it brings along, which are about as many as in the other files.
const MORE_CAS_OF_NODE: &str = "NODE_EXTRA_CA_CERTS";
/// About as many as `boto3` brings along, since it reads all of them at INIT.
const CAS_OF_BOTO3: usize = 140;

/// A TLS front before each store. They end when this value is dropped.
#[derive(Debug)]
pub(crate) struct Fronts {
    environment: BTreeMap<String, String>,
    _ca_files: [NamedTempFile; 3],
    _serving: JoinSet<()>,
}

impl Fronts {
    /// Starts a front before each store that `environment` names.
    pub(crate) async fn start(environment: &BTreeMap<String, String>) -> Result<Self> {
        let (acceptor, ca_files) = identity()?;
        let mut environment = environment.clone();
        let mut serving = JoinSet::new();
        for name in STORES {
            let url = environment
                .get_mut(name)
                .with_context(|| format!("{name} is not set"))?;
            let store = url
                .strip_prefix("http://")
                .with_context(|| format!("{name} is not an http URL"))?
                .to_owned();
            let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
            *url = format!("https://{HOST}:{}", listener.local_addr()?.port());
            serving.spawn(serve(listener, acceptor.clone(), store));
        }
        for (name, file) in [MORE_CAS_OF_NODE, CA_FILE, CA_FILE_OF_BOTO3].into_iter().zip(&ca_files) {
            let path = file.path().to_str().context("the path of the CA file")?;
            environment.insert(name.to_owned(), path.to_owned());
        }
        Ok(Self {
            environment,
            _ca_files: ca_files,
            _serving: serving,
        })
    }

    /// What the functions get, so that they reach the stores through the fronts and not otherwise.
    pub(crate) const fn environment(&self) -> &BTreeMap<String, String> {
        &self.environment
    }
}

/// A certificate for [`HOST`], ready to be served, and files with that of its CA: alone, and with those of others for the
/// functions and for `boto3`.
fn identity() -> Result<(TlsAcceptor, [NamedTempFile; 3])> {
    let ca = authority(0)?;
    let mut certificates = vec![ca.pem()];
    for number in 1..CAS_OF_BOTO3 {
        certificates.push(authority(number)?.pem());
    }
    let file = |length| {
        let mut file = NamedTempFile::new()?;
        for certificate in certificates.iter().take(length) {
            file.write_all(certificate.as_bytes())?;
        }
        anyhow::Ok(file)
    };
    let files = [file(1)?, file(CAS_OF_FUNCTIONS)?, file(CAS_OF_BOTO3)?];

    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new([HOST.to_owned()])?.signed_by(&key, &ca)?;
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    // Both stores have the same name here: with tickets, the second handshake would be a resumption, which it is not on AWS.
    config.send_tls13_tickets = 0;
    Ok((TlsAcceptor::from(Arc::new(config)), files))
}

fn authority(number: usize) -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let name = format!("CA {number} of a measurement");
    parameters.distinguished_name.push(DnType::CommonName, name);
    Ok(CertifiedIssuer::self_signed(parameters, KeyPair::generate()?)?)
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, store: String) {
    // Connections belong to this task, so they end with it.
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let (acceptor, store) = (acceptor.clone(), store.clone());
        connections.spawn(async move {
            // The function sees the connection end, and reports it.
            let _ = forward(client, &acceptor, &store).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn forward(client: TcpStream, acceptor: &TlsAcceptor, store: &str) -> Result<()> {
    client.set_nodelay(true)?;
    let mut client = acceptor.accept(client).await?;
    let mut store = TcpStream::connect(store).await?;
    store.set_nodelay(true)?;
    copy_bidirectional(&mut client, &mut store).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::pki_types::pem::PemObject as _;
    use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};

    use super::*;

    /// Sends a greeting through a front as a client that trusts the CAs of a file, and returns what came back.
    async fn greet(url: &str, ca_file: &str) -> Result<Vec<u8>> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca_file)? {
            roots.add(certificate?)?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let address = url.strip_prefix("https://").context("not an https URL")?;
        let stream = TcpStream::connect(address).await?;
        let connector = TlsConnector::from(Arc::new(config));
        let mut stream = connector.connect(ServerName::try_from(HOST)?, stream).await?;
        stream.write_all(b"hello").await?;
        let mut answer = vec![0; 5];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn the_stores_are_reached_over_tls_by_whoever_trusts_the_ca_of_the_run() -> Result<()> {
        let store = TcpListener::bind(("127.0.0.1", 0)).await?;
        let plain = format!("http://{}", store.local_addr()?);
        let mut echo = JoinSet::new();
        echo.spawn(async move {
            while let Ok((mut stream, _)) = store.accept().await {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            }
        });
        let environment = STORES.map(|name| (name.to_owned(), plain.clone())).into();

        let fronts = Fronts::start(&environment).await?;
        let others = Fronts::start(&environment).await?;
        let setting = |fronts: &Fronts, name| anyhow::Ok(fronts.environment().get(name).context("not set")?.clone());
        for name in STORES {
            let url = setting(&fronts, name)?;
            assert_eq!(greet(&url, &setting(&fronts, CA_FILE)?).await?, b"hello", "{name}");
            assert!(greet(&url, &setting(&others, CA_FILE)?).await.is_err(), "{name}");
        }
        Ok(())
    }
}
