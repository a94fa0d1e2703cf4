//! Building a state file. Order written: `HOST`, `MACH`, `VCPU`, `DEVC`, `META`, the VMM's own.
//!
//! Invariant: what [`StateBuilder::finish`] gives is read back by [`crate::StateFile::decode`].

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::string::String;
use alloc::vec::Vec;

use coldframe_envelope::{ContainerBuilder, EncodeError, Producer, SectionFlags, SectionKind};
use coldframe_units::{Arch, RootHash};

use crate::body::{BODY_VERSION, StateBody, check_count, encode_body};
use crate::layout::{HYPERVISOR_MAX_OF_1_0, WITH_ANY_HYPERVISOR};
use crate::limits::{BODY_BYTES_MAX, DEVICE_COUNT_MAX, VCPU_COUNT_MAX};
use crate::schema::v1::{DeviceV1, HostV1, MachineV1, MetadataV1, VcpuV1};
use crate::{FORMAT, is_vmm_kind};

/// Builds the bytes of a state file; the order of the calls does not change them.
#[derive(Clone, Debug)]
pub struct StateBuilder {
    arch: Arch,
    producer: Producer,
    host: Option<(u8, Vec<u8>)>,
    machine: Option<(u8, Vec<u8>)>,
    vcpus: BTreeMap<u32, Vec<u8>>,
    devices: BTreeMap<(String, u32), Vec<u8>>,
    metadata: Option<Vec<u8>>,
    vmm: BTreeMap<(SectionKind, u32), VmmSection>,
}

#[derive(Clone, Debug)]
struct VmmSection {
    version: u16,
    flags: SectionFlags,
    body: Vec<u8>,
}

impl StateBuilder {
    /// The state of a guest of this architecture, still without sections.
    #[must_use]
    pub const fn new(arch: Arch, producer: Producer) -> Self {
        Self {
            arch,
            producer,
            host: None,
            machine: None,
            vcpus: BTreeMap::new(),
            devices: BTreeMap::new(),
            metadata: None,
            vmm: BTreeMap::new(),
        }
    }

    /// Adds the host that the machine was saved on.
    ///
    /// # Errors
    /// [`EncodeError`]: a rule or a limit of the body, or added twice.
    pub fn host(&mut self, host: &HostV1) -> Result<(), EncodeError> {
        let body = encode_body(host)?;
        add_single::<HostV1, _>(&mut self.host, (host.hypervisor, body))
    }

    /// Adds state that belongs to no vCPU.
    ///
    /// # Errors
    /// [`EncodeError`]: a rule or a limit of the body, another architecture, or added twice.
    pub fn machine(&mut self, machine: &MachineV1) -> Result<(), EncodeError> {
        let body = encode_body(machine)?;
        if machine.arch != self.arch.code() {
            return Err(EncodeError::Invalid { field: "arch" });
        }
        add_single::<MachineV1, _>(&mut self.machine, (machine.hypervisor, body))
    }

    /// Adds the state of one vCPU.
    ///
    /// # Errors
    /// [`EncodeError`]: a rule or a limit of the body, or its index added twice.
    pub fn vcpu(&mut self, vcpu: &VcpuV1) -> Result<(), EncodeError> {
        let body = encode_body(vcpu)?;
        add_keyed::<VcpuV1, _>(self.vcpus.entry(vcpu.index), vcpu.index, body)
    }

    /// Adds the state of one device.
    ///
    /// # Errors
    /// [`EncodeError`]: a rule or a limit of the body, or its kind and instance added twice.
    pub fn device(&mut self, device: &DeviceV1) -> Result<(), EncodeError> {
        let body = encode_body(device)?;
        let entry = self.devices.entry((device.kind.clone(), device.instance));
        add_keyed::<DeviceV1, _>(entry, device.instance, body)
    }

    /// Adds what the guest's metadata service held.
    ///
    /// # Errors
    /// [`EncodeError`]: longer than its limit, or added twice.
    pub fn metadata(&mut self, metadata: &MetadataV1) -> Result<(), EncodeError> {
        let body = encode_body(metadata)?;
        add_single::<MetadataV1, _>(&mut self.metadata, body)
    }

    /// Adds a section of the VMM's own, whose `kind` begins with a lower-case letter.
    ///
    /// # Errors
    /// [`EncodeError`]: a kind that is not the VMM's, longer than its limit, or its kind and
    /// instance added twice.
    pub fn opaque(
        &mut self,
        kind: SectionKind,
        instance: u32,
        version: u16,
        flags: SectionFlags,
        body: Vec<u8>,
    ) -> Result<(), EncodeError> {
        let invalid = |field| Err(EncodeError::Invalid { field });
        if !is_vmm_kind(kind) {
            return invalid("section kind");
        }
        if flags.is_hashed_by_format() {
            return invalid("section flags");
        }
        check_count("body length in bytes", body.len(), BODY_BYTES_MAX)?;
        let section = VmmSection {
            version,
            flags,
            body,
        };
        match self.vmm.entry((kind, instance)) {
            Entry::Vacant(entry) => {
                entry.insert(section);
                Ok(())
            }
            Entry::Occupied(_) => Err(EncodeError::DuplicateSection { kind, instance }),
        }
    }

    /// Adds a section of the VMM's own that holds `value` in the codec of the format.
    ///
    /// The VMM derives `bitcode::Encode` and `bitcode::Decode` with the very release of bitcode
    /// that this crate names, freezes the type for each `version`, and keeps to the rules of
    /// `specs/statefile.md` for hostile input.
    ///
    /// # Errors
    /// As [`StateBuilder::opaque`].
    #[cfg(feature = "bitcode")]
    pub fn typed<T: bitcode::Encode>(
        &mut self,
        kind: SectionKind,
        instance: u32,
        version: u16,
        flags: SectionFlags,
        value: &T,
    ) -> Result<(), EncodeError> {
        self.opaque(kind, instance, version, flags, bitcode::encode(value))
    }

    /// The file's bytes and its root.
    ///
    /// # Errors
    /// [`EncodeError`]: host, machine and vCPUs are not all there or all absent, host and machine
    /// name different hypervisors, or a limit of the whole file.
    pub fn finish(self) -> Result<(Vec<u8>, RootHash), EncodeError> {
        let invalid = |field| Err(EncodeError::Invalid { field });
        check_count("vcpu count", self.vcpus.len(), VCPU_COUNT_MAX)?;
        check_count("device count", self.devices.len(), DEVICE_COUNT_MAX)?;
        let whole = match (&self.host, &self.machine) {
            (Some(host), Some(machine)) if host.0 != machine.0 => return invalid("hypervisor"),
            (Some(_), Some(_)) => !self.vcpus.is_empty(),
            (None, None) => self.vcpus.is_empty(),
            _ => false,
        };
        if !whole {
            return invalid("host, machine and vcpus together");
        }
        // The lowest version that has all that the file holds, so that every reader that can does.
        let format = match self.host {
            Some((hypervisor, _)) if hypervisor > HYPERVISOR_MAX_OF_1_0 => WITH_ANY_HYPERVISOR,
            _ => FORMAT,
        };
        let mut file = ContainerBuilder::new(format, self.producer).with_arch(self.arch);
        let mut must = |kind, instance, body| {
            file.must_understand(kind, instance, BODY_VERSION, body);
        };
        if let Some((_, body)) = self.host {
            must(HostV1::KIND, 0, body);
        }
        if let Some((_, body)) = self.machine {
            must(MachineV1::KIND, 0, body);
        }
        for (index, body) in self.vcpus {
            must(VcpuV1::KIND, index, body);
        }
        for (number, body) in (0..).zip(self.devices.into_values()) {
            must(DeviceV1::KIND, number, body);
        }
        if let Some(body) = self.metadata {
            file.optional(MetadataV1::KIND, 0, BODY_VERSION, body);
        }
        for ((kind, instance), section) in self.vmm {
            let VmmSection {
                version,
                flags,
                body,
            } = section;
            file.section(kind, instance, version, flags, body);
        }
        file.finish()
    }
}

fn add_single<T: StateBody, V>(slot: &mut Option<V>, value: V) -> Result<(), EncodeError> {
    if slot.is_some() {
        let (kind, instance) = (T::KIND, 0);
        return Err(EncodeError::DuplicateSection { kind, instance });
    }
    *slot = Some(value);
    Ok(())
}

fn add_keyed<T: StateBody, K: Ord>(
    entry: Entry<'_, K, Vec<u8>>,
    instance: u32,
    body: Vec<u8>,
) -> Result<(), EncodeError> {
    match entry {
        Entry::Vacant(entry) => {
            entry.insert(body);
            Ok(())
        }
        Entry::Occupied(_) => Err(EncodeError::DuplicateSection {
            kind: T::KIND,
            instance,
        }),
    }
}
