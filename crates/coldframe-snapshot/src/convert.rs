//! Between the neutral state of `coldframe-hv` and the frozen bodies of `coldframe-statefile`.
//!
//! The two are kept apart on purpose: the neutral types may grow with the adapters, the bodies of
//! a version never change.

use std::collections::BTreeMap;

use coldframe_envelope::{
    Container, DecodeError, DecodeErrorKind, EncodeError, Limits, SectionKind,
};
use coldframe_hv::{
    CpuIdentity, CpuidLeaf, DeviceState, HostIdentity, Hypervisor, ItemKind, MachineState,
    VcpuState, VmState,
};
use coldframe_manifest::HostSummary;
use coldframe_statefile::schema::v1::{CpuidRowV1, DeviceV1, HostV1, MachineV1, VcpuV1};
use coldframe_statefile::{HOST, StateBuilder, StateFile, is_vmm_kind};
use coldframe_units::{Arch, PageSize};

/// The kinds of the VMM's own sections in a state file; none if its table cannot be read.
pub(crate) fn vmm_kinds(bytes: &[u8]) -> Vec<SectionKind> {
    let container = Container::peek(bytes, Limits::SMALL_FILE);
    let kinds = container
        .iter()
        .flat_map(|file| file.table().sections())
        .map(|row| row.kind);
    kinds.filter(|kind| is_vmm_kind(*kind)).collect()
}

/// Adds a machine's state to a state file.
pub(crate) fn put_machine(
    file: &mut StateBuilder,
    machine: &MachineState,
) -> Result<(), EncodeError> {
    file.host(&host_body(&machine.host))?;
    file.machine(&MachineV1 {
        arch: machine.arch.code(),
        hypervisor: machine.hypervisor.code(),
        items: items_body(&machine.vm.items),
    })?;
    machine
        .vcpus
        .iter()
        .try_for_each(|vcpu| file.vcpu(&vcpu_body(vcpu)))
}

/// Adds the state of a device of the VMM.
pub(crate) fn put_device(file: &mut StateBuilder, device: &DeviceState) -> Result<(), EncodeError> {
    file.device(&DeviceV1 {
        kind: device.kind.clone(),
        instance: device.instance,
        version: device.version,
        bytes: device.bytes.clone(),
    })
}

/// The machine's state out of a state file.
pub(crate) fn machine(file: &StateFile<'_>) -> Result<MachineState, DecodeError> {
    let body = file.machine()?;
    let hypervisor = hypervisor(body.hypervisor)?;
    Ok(MachineState {
        arch: file.arch(),
        hypervisor,
        host: host(file.host()?, file.arch(), hypervisor)?,
        vm: VmState {
            items: items(body.items),
        },
        vcpus: file.vcpus()?.into_iter().map(vcpu).collect(),
    })
}

/// The VMM's devices out of a state file.
pub(crate) fn devices(file: &StateFile<'_>) -> Result<Vec<DeviceState>, DecodeError> {
    let device = |body: DeviceV1| DeviceState {
        kind: body.kind,
        instance: body.instance,
        version: body.version,
        bytes: body.bytes,
    };
    Ok(file.devices()?.into_iter().map(device).collect())
}

fn hypervisor(code: u8) -> Result<Hypervisor, DecodeError> {
    let invalid = DecodeError::new(
        DecodeErrorKind::Invalid {
            field: "hypervisor",
        },
        0,
    );
    Hypervisor::from_code(code).ok_or(invalid)
}

fn items_body(items: &BTreeMap<ItemKind, Vec<u8>>) -> Vec<(u32, Vec<u8>)> {
    items
        .iter()
        .map(|(kind, bytes)| (kind.code(), bytes.clone()))
        .collect()
}

fn items(rows: Vec<(u32, Vec<u8>)>) -> BTreeMap<ItemKind, Vec<u8>> {
    rows.into_iter()
        .map(|(code, bytes)| (ItemKind::from_code(code), bytes))
        .collect()
}

fn vcpu_body(vcpu: &VcpuState) -> VcpuV1 {
    VcpuV1 {
        index: vcpu.index,
        items: items_body(&vcpu.items),
        msrs: vcpu
            .msrs
            .iter()
            .map(|(index, value)| (*index, *value))
            .collect(),
        regs: vcpu
            .regs
            .iter()
            .map(|(id, bytes)| (*id, bytes.clone()))
            .collect(),
    }
}

fn vcpu(body: VcpuV1) -> VcpuState {
    VcpuState {
        index: body.index,
        items: items(body.items),
        msrs: body.msrs.into_iter().collect(),
        regs: body.regs.into_iter().collect(),
    }
}

fn host_body(host: &HostIdentity) -> HostV1 {
    let row = |leaf: &CpuidLeaf| CpuidRowV1 {
        function: leaf.function,
        index: leaf.index,
        flags: leaf.flags,
        eax: leaf.eax,
        ebx: leaf.ebx,
        ecx: leaf.ecx,
        edx: leaf.edx,
    };
    HostV1 {
        hypervisor: host.hypervisor.code(),
        vendor: host.cpu.vendor.clone(),
        family: host.cpu.family,
        model: host.cpu.model,
        stepping: host.cpu.stepping,
        brand: host.cpu.brand.clone(),
        cpuid: host.cpuid.iter().map(row).collect(),
        id_registers: host
            .id_registers
            .iter()
            .map(|(id, value)| (*id, *value))
            .collect(),
        msr_indexes: host.msr_indexes.iter().copied().collect(),
        xsave_bytes: host.xsave_bytes,
        tsc_khz: host.tsc_khz,
        counter_hz: host.counter_hz,
        capabilities: host
            .capabilities
            .iter()
            .map(|(id, answer)| (*id, *answer))
            .collect(),
        kernel: host.kernel.clone(),
        page_size_log2: host.page_size.log2(),
    }
}

/// The host in a few words, for the manifest; `file` is the whole state file.
pub(crate) fn host_summary(host: &HostIdentity, file: &[u8]) -> Option<HostSummary> {
    let container = Container::peek(file, Limits::SMALL_FILE).ok()?;
    let section = container.table().find(HOST, 0)?;
    Some(HostSummary::new(
        section.hash,
        &host.hypervisor.to_string(),
        &host.cpu.brand,
        &host.kernel,
    ))
}

fn host(body: HostV1, arch: Arch, hypervisor: Hypervisor) -> Result<HostIdentity, DecodeError> {
    let leaf = |row: CpuidRowV1| CpuidLeaf {
        function: row.function,
        index: row.index,
        flags: row.flags,
        eax: row.eax,
        ebx: row.ebx,
        ecx: row.ecx,
        edx: row.edx,
    };
    let invalid = DecodeError::new(
        DecodeErrorKind::Invalid {
            field: "page_size_log2",
        },
        0,
    );
    Ok(HostIdentity {
        arch,
        hypervisor,
        cpu: CpuIdentity {
            vendor: body.vendor,
            family: body.family,
            model: body.model,
            stepping: body.stepping,
            brand: body.brand,
        },
        cpuid: body.cpuid.into_iter().map(leaf).collect(),
        id_registers: body.id_registers.into_iter().collect(),
        msr_indexes: body.msr_indexes.into_iter().collect(),
        xsave_bytes: body.xsave_bytes,
        tsc_khz: body.tsc_khz,
        counter_hz: body.counter_hz,
        capabilities: body.capabilities.into_iter().collect(),
        kernel: body.kernel,
        page_size: PageSize::from_log2(body.page_size_log2).map_err(|_| invalid)?,
    })
}
