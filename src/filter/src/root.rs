//! One root context: the SDK's callbacks, handed on to [`crate::plugin`].

use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;

use crate::host;
use crate::plugin::Plugin;
use crate::stream::Stream;

/// The root context; without a plugin until it is configured.
#[derive(Debug)]
pub struct Root {
    context: u32,
    plugin: Option<Plugin>,
}

impl Root {
    /// A root that is not configured yet.
    pub fn new(context: u32) -> Self {
        Self { context, plugin: None }
    }

    fn configure(&mut self) -> Result<(), String> {
        let text =
            host::plugin_configuration().map_err(|error| format!("plugin configuration: cannot be read: {error}"))?;
        self.plugin.insert(Plugin::configure(self.context, &text)?).start()
    }
}

impl Context for Root {
    fn on_done(&mut self) -> bool {
        self.plugin.iter().for_each(Plugin::done);
        true
    }

    fn on_http_call_response(&mut self, token: u32, _: usize, body_size: usize, _: usize) {
        self.plugin.iter_mut().for_each(|plugin| plugin.answer(token, body_size));
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        match self.configure() {
            Ok(()) => true,
            Err(error) => {
                log::error!("colorfast: {error}");
                false
            }
        }
    }

    fn on_tick(&mut self) {
        self.plugin.iter_mut().for_each(Plugin::tick);
    }

    fn create_http_context(&self, context: u32) -> Option<Box<dyn HttpContext>> {
        let requests = self.plugin.as_ref().map(|plugin| Rc::clone(&plugin.requests));
        Some(Box::new(Stream::new(context, requests)))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
