//! What a proxy's configuration says about the plugin.

/// What a paused headers callback stops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeaderPause {
    /// All of the stream: body and trailers are held until it is continued. What Envoy does unless
    /// told otherwise.
    #[default]
    All,
    /// The headers alone: the body callback still runs, and its `Continue` releases the stream.
    /// Envoy's `allow_on_headers_stop_iteration: true`.
    Headers,
}

/// The configuration of one plugin in one VM.
///
/// ```
/// use wasm_host::{HeaderPause, Plugin};
/// let plugin = Plugin::config(r#"{"services":[]}"#).header_pause(HeaderPause::Headers);
/// ```
#[derive(Clone, Debug)]
pub struct Plugin {
    pub(crate) config: Vec<u8>,
    pub(crate) vm_config: Vec<u8>,
    pub(crate) vm_id: String,
    pub(crate) header_pause: HeaderPause,
    pub(crate) fuel: u64,
}

impl Plugin {
    /// The `vm_id` of a plugin that names none.
    pub const DEFAULT_VM_ID: &str = "";

    /// Steps that one callback may take: seconds of interpreting, far from what a filter needs.
    pub const DEFAULT_FUEL: u64 = 2_000_000_000;

    /// A plugin with this configuration, and nothing else out of the ordinary.
    pub fn config(config: impl AsRef<[u8]>) -> Self {
        Self {
            config: config.as_ref().to_vec(),
            vm_config: Vec::new(),
            vm_id: Self::DEFAULT_VM_ID.to_owned(),
            header_pause: HeaderPause::default(),
            fuel: Self::DEFAULT_FUEL,
        }
    }

    /// The configuration of the VM, which every plugin in it shares.
    pub fn vm_config(mut self, config: impl AsRef<[u8]>) -> Self {
        self.vm_config = config.as_ref().to_vec();
        self
    }

    /// Which shared data the VM sees.
    pub fn vm_id(mut self, id: &str) -> Self {
        id.clone_into(&mut self.vm_id);
        self
    }

    /// What a paused headers callback stops.
    pub fn header_pause(mut self, pause: HeaderPause) -> Self {
        self.header_pause = pause;
        self
    }

    /// Steps that one callback may take before it counts as endless.
    pub fn fuel(mut self, steps: u64) -> Self {
        self.fuel = steps;
        self
    }
}
