//! The lab's running directors: asked and changed on threads in their own namespaces, one at a time
//! each, while the main loop goes on.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::Result;
use super::apply::Directed;
use super::error::Error;
use super::protocol::ServiceTable;
use super::rates::{APART, Samples};
use super::serve::Supervisor;
use crate::director::ServiceSpec;
use crate::director::live::{self, Live, ServiceState};
use crate::kernel::netns;

/// A director that was programmed.
#[derive(Debug)]
pub(super) struct Director {
    pub(super) node: String,
    pub(super) engine: &'static str,
    pin: PathBuf,
    /// As it was programmed, to be opened in its namespace at the first use.
    services: Vec<ServiceSpec>,
    live: Arc<Mutex<Option<Box<dyn Live>>>>,
    samples: RefCell<Samples>,
}

impl Director {
    pub(super) fn new(directed: &Directed, pin: PathBuf) -> Self {
        Self {
            node: directed.node.clone(),
            engine: directed.engine,
            pin,
            services: directed.services.clone(),
            live: Arc::default(),
            samples: RefCell::default(),
        }
    }

    /// Runs `job` with the director, in its namespace.
    ///
    /// # Errors
    /// The namespace cannot be entered, or what `job` met.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut dyn Live) -> Result<T, live::Error> + Send + 'static,
    ) -> Result<T> {
        let (slot, pin) = (Arc::clone(&self.live), self.pin.clone());
        let (engine, services) = (self.engine, self.services.clone());
        let failed = |source| Error::Live {
            node: self.node.clone(),
            source,
        };
        let work = move || -> Result<Result<T, live::Error>> {
            let ns = netns::open(&pin)?;
            Ok(netns::run_in(ns, move || {
                // A job that panicked has changed either all or nothing.
                let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
                let live = match &mut *slot {
                    Some(live) => live,
                    none => none.insert(live::open(engine, &services)?),
                };
                job(&mut **live)
            })?)
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|_| Error::Refused(format!("the thread of director {} died", self.node)))??
            .map_err(failed)
    }

    /// The table with rates: those of the kernel, or out of two samples.
    async fn table(&self) -> Result<Vec<ServiceState>> {
        loop {
            let mut table = self.run(|live| live.table()).await?;
            let complete = table.iter().all(|s| s.rates.is_some())
                || self.samples.borrow_mut().fill(Instant::now(), &mut table);
            if complete {
                return Ok(table);
            }
            tokio::time::sleep(APART).await;
        }
    }
}

impl Supervisor {
    /// Every service of the lab as it is now, in the directors' order; or the one of that name.
    pub(super) async fn service_table(&self, name: Option<&str>) -> Result<Vec<ServiceTable>> {
        if let Some(name) = name {
            self.director_of(name)?;
        }
        let directors = self.state.borrow().directors.clone();
        let mut all = Vec::new();
        for director in directors {
            if name.is_some_and(|n| !director.serves(n)) {
                continue;
            }
            let table = director.table().await?;
            all.extend(
                table
                    .into_iter()
                    .filter(|s| name.is_none_or(|n| n == s.name))
                    .map(|state| ServiceTable {
                        lab: self.lab.name().to_string(),
                        director: director.node.clone(),
                        engine: director.engine.to_owned(),
                        method: director.method(&state.name),
                        health: self.health(&state.name),
                        state,
                    }),
            );
        }
        Ok(all)
    }

    /// Services with their weights as they are now, or as far as the kernel tells.
    pub(super) async fn live_services(&self) -> Vec<(String, &'static str, Vec<ServiceSpec>)> {
        let directors = self.state.borrow().directors.clone();
        let mut all = Vec::new();
        for director in directors {
            let services = director.run(|live| live.services()).await;
            all.push((
                director.node.clone(),
                director.engine,
                services.unwrap_or_else(|_| director.services.clone()),
            ));
        }
        all
    }
}

impl Director {
    pub(super) fn serves(&self, service: &str) -> bool {
        self.services.iter().any(|s| s.name == service)
    }

    fn method(&self, service: &str) -> String {
        let mut services = self.services.iter();
        let spec = services.find(|s| s.name == service);
        spec.map(|s| s.method.as_str().to_owned())
            .unwrap_or_default()
    }
}
