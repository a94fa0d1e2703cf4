//! The machine state among what is inspected.

use coldframe_envelope::{Container, Limits};
use coldframe_statefile::StateFile;
use coldframe_storage::PreadSource;
use serde::Serialize;

use super::report::{FileReport, text, whole};

/// What a state file holds.
#[derive(Serialize)]
pub struct StateReport {
    pub hypervisor: Option<u8>,
    pub cpu: Option<String>,
    pub kernel: Option<String>,
    pub vcpus: Vec<VcpuReport>,
    pub devices: Vec<DeviceReport>,
    /// Sections that nobody here knows, or that are the VMM's own.
    pub other_sections: Vec<String>,
}

/// How much a vCPU's state holds.
#[derive(Serialize)]
pub struct VcpuReport {
    pub index: u32,
    pub items: usize,
    pub msrs: usize,
    pub registers: usize,
}

/// A device of the VMM.
#[derive(Serialize)]
pub struct DeviceReport {
    pub kind: String,
    pub instance: u32,
    pub version: u16,
    pub bytes: usize,
}

impl FileReport {
    pub(super) fn read_state(&mut self, source: &PreadSource) -> Result<(), String> {
        let bytes = whole(source)?;
        let container = Container::peek(&bytes, Limits::SMALL_FILE).map_err(text)?;
        let kinds: Vec<_> = container
            .table()
            .sections()
            .iter()
            .map(|row| row.kind)
            .collect();
        let state = StateFile::decode(&bytes, &kinds, Limits::SMALL_FILE).map_err(text)?;
        let host = if state.has_machine() {
            Some(state.host().map_err(text)?)
        } else {
            None
        };
        let vcpus = if state.has_machine() {
            state.vcpus().map_err(text)?
        } else {
            Vec::new()
        };
        let devices = state.devices().map_err(text)?;
        let other = state.sections().map(|info| info.section);
        let other = other.filter(|row| coldframe_statefile::is_vmm_kind(row.kind));
        self.state = Some(StateReport {
            hypervisor: host.as_ref().map(|host| host.hypervisor),
            cpu: host.as_ref().map(|host| host.brand.clone()),
            kernel: host.as_ref().map(|host| host.kernel.clone()),
            vcpus: (vcpus.iter())
                .map(|vcpu| VcpuReport {
                    index: vcpu.index,
                    items: vcpu.items.len(),
                    msrs: vcpu.msrs.len(),
                    registers: vcpu.regs.len(),
                })
                .collect(),
            devices: (devices.into_iter())
                .map(|device| DeviceReport {
                    kind: device.kind,
                    instance: device.instance,
                    version: device.version,
                    bytes: device.bytes.len(),
                })
                .collect(),
            other_sections: other
                .map(|row| format!("{}.{}", row.kind, row.instance))
                .collect(),
        });
        Ok(())
    }
}
