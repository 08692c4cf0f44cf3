//! What of IPVS a kernel has, asked without changing anything.

use super::error::About;
use super::requests;
use super::socket::Request;
use super::{Error, Ipvs, Netmask, Result, ServiceConf, ServiceKey};

/// A name that no module bears.
const NOBODY: &str = "nslab-no";
/// `IP_VS_SCHEDNAME_MAXLEN` less the NUL.
const NAME_MAX: usize = 15;

impl Ipvs {
    /// Whether the kernel has a scheduler; its module is loaded if there is one. `None` where the
    /// kernel cannot be asked without making a service.
    pub fn has_scheduler(&mut self, name: &str) -> Result<Option<bool>> {
        self.has(name, |name, service| {
            name.clone_into(&mut service.scheduler);
        })
    }

    /// Whether the kernel has a persistence engine, as [`Self::has_scheduler`] does.
    pub fn has_persistence_engine(&mut self, name: &str) -> Result<Option<bool>> {
        self.has(name, |name, service| {
            service.persistence_engine = Some(name.to_owned());
        })
    }

    /// Asks for an IPv6 service with the prefix length 0, which `ip_vs_add_service` refuses, but
    /// not before it has looked for scheduler and persistence engine. So that this is not taken on
    /// trust, a name that nobody has is asked for first.
    fn has(&mut self, name: &str, put: impl Fn(&str, &mut ServiceConf)) -> Result<Option<bool>> {
        if name.is_empty() || name.len() > NAME_MAX {
            return Ok(Some(false));
        }
        let taken = self.services()?;
        let free = (1..=u32::MAX)
            .rev()
            .map(|mark| ServiceKey::Fwmark { mark, ipv6: true })
            .find(|key| taken.iter().all(|s| s.conf.key != *key));
        let Some(key) = free else { return Ok(None) };
        // "none" is a service without scheduler, since Linux 4.3.
        let mut service = ServiceConf::new(key, "none");
        service.netmask = Netmask::V6(0);
        for (name, sought) in [(NOBODY, false), (name, true)] {
            put(name, &mut service);
            let request = Request {
                about: About::Table,
                ..requests::add_service(&service)
            };
            let errno = match self.command(request) {
                Ok(()) => {
                    self.delete_service(&key)?;
                    return Ok(None);
                }
                Err(Error::Refused { source, .. }) => source.raw_os_error(),
                Err(e) => return Err(e),
            };
            match (errno, sought) {
                (Some(libc::ENOENT), false) => {}
                (Some(libc::ENOENT), true) => return Ok(Some(false)),
                (Some(libc::EINVAL), true) => return Ok(Some(true)),
                _ => return Ok(None),
            }
        }
        Ok(None)
    }
}
