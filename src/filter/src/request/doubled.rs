//! Whether the filter stands twice in a filter chain, as a request has shown that another one had decided.

use std::cell::Cell;
use std::hash::{DefaultHasher, Hasher};

use colorfast_core::names::{self, metric};
use colorfast_core::wire::reports::Chain;

use crate::host;
use crate::service::Service;

/// What one root has found.
#[derive(Debug)]
pub struct Doubled {
    chain: Cell<Chain>,
    /// A hash of the configuration, the same in every VM of the process.
    configuration: u64,
}

impl Doubled {
    /// Nothing yet, under the plugin configuration `text`.
    pub fn under(text: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(text);
        Self { chain: Cell::new(Chain::Single), configuration: hasher.finish() }
    }

    /// Notes that a request came that another filter of its chain had decided: counted each time, told once.
    pub fn found(&self, service: &Service) {
        let name = &service.name;
        service.metrics.count(&metric::doubled(name), 1);
        if self.chain.replace(Chain::Doubled) == Chain::Doubled {
            return;
        }
        let mark = self.configuration.to_le_bytes();
        let first = host::update_shared(names::shared::DOUBLED, |told| (told != Some(&mark)).then(|| mark.to_vec()));
        if first == Ok(true) {
            log::error!(
                "colorfast {name}: colorfast stands twice in a filter chain: the first decides, this one lets everything \
                 pass: take one of them out"
            );
        }
    }

    /// Whether this filter was found to be a second one.
    pub fn chain(&self) -> Chain {
        self.chain.get()
    }
}
