//! Reading a state file: structure at [`StateFile::decode`], each body when it is asked for.
//!
//! Invariant of a [`StateFile`]: every hash held, every section is known, optional, or was declared
//! known by the caller; host, machine and vCPUs are all there or all absent.

use alloc::vec::Vec;
use core::cmp::Ordering;

use coldframe_envelope::{
    Body, Container, DecodeError, DecodeErrorKind as Kind, Header, Limits, Section, SectionKind,
};
use coldframe_units::{Arch, RootHash};

#[cfg(feature = "bitcode")]
use crate::body::codec_error;
use crate::body::{check_count, check_version, decode_body};
use crate::layout::KINDS;
use crate::limits::{DEVICE_COUNT_MAX, VCPU_COUNT_MAX};
use crate::schema::v1::{DeviceV1, HostV1, MachineV1, MetadataV1, VcpuV1};
use crate::{DEVC, FORMAT, HOST, MACH, META, VCPU, is_vmm_kind};

/// A state file whose structure was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateFile<'a> {
    container: Container<'a>,
    known: Vec<SectionKind>,
    arch: Arch,
}

/// One row of a state file's listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionInfo {
    /// Its row in the table.
    pub section: Section,
    /// Whether this crate or the caller knows its kind.
    pub known: bool,
}

impl<'a> StateFile<'a> {
    /// Checks the envelope, then which sections there are; no body goes to the codec here.
    ///
    /// `known_vmm_kinds` are the kinds of its own that the VMM understands.
    ///
    /// # Errors
    /// [`DecodeError`]: of the envelope; an unknown section that must be understood; a section of a
    /// newer version; a section too many, missing or out of order.
    pub fn decode(
        file: &'a [u8],
        known_vmm_kinds: &[SectionKind],
        limits: Limits,
    ) -> Result<Self, DecodeError> {
        let container = Container::decode(file, FORMAT, limits)?;
        let vmm = known_vmm_kinds
            .iter()
            .copied()
            .filter(|kind| is_vmm_kind(*kind));
        let known: Vec<SectionKind> = KINDS.into_iter().chain(vmm).collect();
        let arch = container.header().arch;
        let arch = arch.ok_or(DecodeError::new(Kind::Invalid { field: "arch" }, 16))?;
        container.refuse_unknown(&known)?;
        check_sections(&container)?;
        Ok(Self {
            container,
            known,
            arch,
        })
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &Header {
        self.container.header()
    }

    /// The hash that identifies the whole file.
    #[must_use]
    pub fn root(&self) -> RootHash {
        self.container.root()
    }

    /// The guest's architecture.
    #[must_use]
    pub const fn arch(&self) -> Arch {
        self.arch
    }

    /// Whether there is a machine to restore: host, machine and vCPUs.
    #[must_use]
    pub fn has_machine(&self) -> bool {
        self.container.find(MACH, 0).is_some()
    }

    /// The host that the machine was saved on.
    ///
    /// # Errors
    /// [`DecodeError`]: missing, or its body breaks a rule.
    pub fn host(&self) -> Result<HostV1, DecodeError> {
        decode_body(&self.container.require(HOST, 0)?)
    }

    /// State that belongs to no vCPU.
    ///
    /// # Errors
    /// [`DecodeError`]: missing, its body breaks a rule, or it is of another architecture than the
    /// header.
    pub fn machine(&self) -> Result<MachineV1, DecodeError> {
        let body = self.container.require(MACH, 0)?;
        let machine: MachineV1 = decode_body(&body)?;
        if machine.arch != self.arch.code() {
            return Err(body.error(Kind::Invalid { field: "arch" }, 0));
        }
        if machine.hypervisor != self.host()?.hypervisor {
            return Err(body.error(
                Kind::Invalid {
                    field: "hypervisor",
                },
                0,
            ));
        }
        Ok(machine)
    }

    /// Every vCPU, in rising index; 1 to [`VCPU_COUNT_MAX`].
    ///
    /// # Errors
    /// [`DecodeError`]: there is none, or a body breaks a rule.
    pub fn vcpus(&self) -> Result<Vec<VcpuV1>, DecodeError> {
        let vcpus: Vec<VcpuV1> = self
            .of_kind(VCPU)
            .map(|body| {
                let vcpu: VcpuV1 = decode_body(&body)?;
                if vcpu.index != body.section().instance {
                    return Err(body.error(
                        Kind::Invalid {
                            field: "vcpu index",
                        },
                        0,
                    ));
                }
                Ok(vcpu)
            })
            .collect::<Result<_, _>>()?;
        if vcpus.is_empty() {
            return Err(missing(self.header(), VCPU));
        }
        Ok(vcpus)
    }

    /// Every device, in rising kind and instance; perhaps none.
    ///
    /// # Errors
    /// [`DecodeError`]: a body breaks a rule, or a device is there twice.
    pub fn devices(&self) -> Result<Vec<DeviceV1>, DecodeError> {
        let mut devices: Vec<DeviceV1> = Vec::new();
        for body in self.of_kind(DEVC) {
            let device: DeviceV1 = decode_body(&body)?;
            let key = |device: &DeviceV1| (device.kind.clone(), device.instance);
            let order = devices.last().map(|last| key(last).cmp(&key(&device)));
            match order {
                None | Some(Ordering::Less) => {}
                Some(Ordering::Equal) => {
                    let (kind, instance) = (DEVC, device.instance);
                    return Err(body.error(Kind::DuplicateSection { kind, instance }, 0));
                }
                Some(Ordering::Greater) => {
                    let field = "device order";
                    return Err(body.error(Kind::Invalid { field }, 0));
                }
            }
            devices.push(device);
        }
        Ok(devices)
    }

    /// What the guest's metadata service held, if that was saved.
    ///
    /// # Errors
    /// [`DecodeError`]: its body breaks a rule, or is of a newer version.
    pub fn metadata(&self) -> Result<Option<MetadataV1>, DecodeError> {
        let body = self.container.find(META, 0);
        body.map(|body| decode_body(&body)).transpose()
    }

    /// Every section in file order, those that nobody knows among them.
    pub fn sections(&self) -> impl Iterator<Item = SectionInfo> + '_ {
        let sections = self.container.table().sections();
        sections.iter().map(|section| SectionInfo {
            section: *section,
            known: self.known.contains(&section.kind),
        })
    }

    /// A section of the VMM's own as it was written, if it is there.
    #[must_use]
    pub fn opaque(&self, kind: SectionKind, instance: u32) -> Option<Body<'a>> {
        let body = self.container.find(kind, instance)?;
        is_vmm_kind(kind).then_some(body)
    }

    /// A section of the VMM's own that was written by [`typed`](crate::StateBuilder::typed), if it
    /// is there and of this version.
    ///
    /// # Errors
    /// [`DecodeError`]: missing, of another version, or the codec refuses it.
    #[cfg(feature = "bitcode")]
    pub fn typed<T: bitcode::DecodeOwned>(
        &self,
        kind: SectionKind,
        instance: u32,
        version: u16,
    ) -> Result<T, DecodeError> {
        let body = self.container.require(kind, instance)?;
        let found = body.section().version;
        if found != version {
            let kind = Kind::UnsupportedSection {
                kind,
                instance,
                found,
                max: version,
            };
            return Err(body.error(kind, 0));
        }
        bitcode::decode(body.body()).map_err(|_| codec_error(&body))
    }

    fn of_kind(&self, kind: SectionKind) -> impl Iterator<Item = Body<'a>> + '_ {
        let bodies = self.container.bodies();
        bodies.filter(move |body| body.section().kind == kind)
    }
}

fn missing(header: &Header, kind: SectionKind) -> DecodeError {
    let instance = 0;
    DecodeError::new(Kind::MissingSection { kind, instance }, header.table_offset)
}

/// Checks version, flags, instance and number of the sections that this crate knows.
fn check_sections(container: &Container<'_>) -> Result<(), DecodeError> {
    let (mut vcpus, mut devices) = (0_usize, 0_usize);
    let mut vcpu_index = None;
    for body in container.bodies() {
        let Section {
            kind,
            instance,
            flags,
            ..
        } = *body.section();
        if !KINDS.contains(&kind) {
            continue;
        }
        let invalid = |field| Err(body.error(Kind::Invalid { field }, 0));
        if kind == META {
            if flags.is_must_understand() {
                return invalid("section flags");
            }
        } else {
            check_version(&body)?;
            if !flags.is_must_understand() {
                return invalid("section flags");
            }
        }
        let place_is_right = match kind {
            VCPU => vcpu_index.replace(instance) < Some(instance),
            DEVC => usize::try_from(instance).is_ok_and(|number| number == devices),
            _ => instance == 0,
        };
        if !place_is_right {
            return invalid("section instance");
        }
        match kind {
            VCPU => vcpus = vcpus.saturating_add(1),
            DEVC => devices = devices.saturating_add(1),
            _ => {}
        }
    }
    let header = container.header();
    let limits = check_count("vcpu count", vcpus, VCPU_COUNT_MAX)
        .and_then(|()| check_count("device count", devices, DEVICE_COUNT_MAX));
    limits.map_err(|flaw| DecodeError::new(flaw.into(), header.table_offset))?;
    let present = |kind| container.table().find(kind, 0).is_some();
    let parts = [
        (HOST, present(HOST)),
        (MACH, present(MACH)),
        (VCPU, vcpus > 0),
    ];
    let any = parts.iter().any(|(_, present)| *present);
    match parts.iter().find(|(_, present)| any && !present) {
        Some((kind, _)) => Err(missing(header, *kind)),
        None => Ok(()),
    }
}
