//! Which clients a server lets in: TLS, and TCP addresses that other hosts reach.
//!
//! Invariant: without authentication of clients, only this host can connect, unless that was asked
//! for by name.

use coldframe_nbd::proto::TlsPolicy;
use coldframe_nbd::{NbdServer, TlsConfig};

use crate::cli::disk::Serve;
use crate::exit::Failure;

/// TLS and authentication as the command line has them.
pub struct Access {
    tls: Option<TlsConfig>,
    is_loopback_only: bool,
}

impl Access {
    /// Reads certificates, and refuses an address that must not be served: before the disk is
    /// opened.
    pub fn prepare(args: &Serve) -> Result<Self, Failure> {
        let Serve { access, listen, .. } = args;
        let is_loopback_only = access.tls_client_ca.is_none() && !access.allow_unauthenticated;
        let cannot = format!("cannot serve at {listen}");
        if is_loopback_only {
            let is_loopback = listen.is_loopback();
            if !is_loopback.map_err(|error| Failure::environment(&cannot, &error))? {
                return Err(exposed(&cannot));
            }
        }
        let tls = match (&access.tls_cert, &access.tls_key) {
            (Some(chain), Some(key)) => {
                let roots = access.tls_client_ca.as_deref();
                let config = TlsConfig::from_pem_files(chain, key, roots);
                Some(config.map_err(|error| Failure::environment(&cannot, &error))?)
            }
            _ => None,
        };
        Ok(Self {
            tls,
            is_loopback_only,
        })
    }

    /// The server with all that.
    pub fn guard(&self, mut server: NbdServer) -> NbdServer {
        if let Some(tls) = &self.tls {
            server = server.tls(tls.clone(), TlsPolicy::Required);
        }
        if self.is_loopback_only {
            server = server.loopback_only();
        }
        server
    }
}

fn exposed(cannot: &str) -> Failure {
    Failure::Usage(format!(
        "{cannot}: other hosts could connect without authentication; give --tls-cert, --tls-key \
         and --tls-client-ca, or --allow-unauthenticated"
    ))
}
