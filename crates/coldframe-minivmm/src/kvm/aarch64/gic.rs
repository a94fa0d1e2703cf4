//! The interrupt controller of an aarch64 machine: made, placed, switched on.
//!
//! Source: Linux Documentation/virt/kvm/devices/arm-vgic-v3.rst and arm-vgic-its.rst.

use kvm_bindings as kvm;
use kvm_ioctls::{DeviceFd, VmFd};

use crate::error::MiniVmError;
use crate::kvm::failed::kvm_error;

/// Where the distributor is, 64 KiB.
const DISTRIBUTOR: u64 = 0xd000_0000;
/// Where the redistributors are, 128 KiB for each vCPU.
const REDISTRIBUTORS: u64 = 0xd010_0000;
/// Where the translation service is, 128 KiB.
const SERVICE: u64 = 0xd100_0000;
/// How many interrupts there are, those of one vCPU included.
static INTERRUPTS: u32 = 128;

/// A GICv3 for `vcpus` vCPUs, which have been made.
pub(super) fn new(vm: &VmFd, vcpus: u8) -> Result<DeviceFd, MiniVmError> {
    let device = create(vm, kvm::kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3)?;
    let address = kvm::KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION;
    set_address(&device, kvm::KVM_VGIC_V3_ADDR_TYPE_DIST, DISTRIBUTOR)?;
    set_address(&device, address, u64::from(vcpus) << 52 | REDISTRIBUTORS)?;
    let count = kvm::kvm_device_attr {
        group: kvm::KVM_DEV_ARM_VGIC_GRP_NR_IRQS,
        addr: &raw const INTERRUPTS as u64,
        ..Default::default()
    };
    set(&device, &count)?;
    init(&device)?;
    Ok(device)
}

/// A translation service.
pub(super) fn new_its(vm: &VmFd) -> Result<DeviceFd, MiniVmError> {
    let device = create(vm, kvm::kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_ITS)?;
    set_address(&device, kvm::KVM_VGIC_ITS_ADDR_TYPE, SERVICE)?;
    init(&device)?;
    Ok(device)
}

fn create(vm: &VmFd, type_: u32) -> Result<DeviceFd, MiniVmError> {
    let mut request = kvm::kvm_create_device {
        type_,
        ..Default::default()
    };
    vm.create_device(&mut request)
        .map_err(|e| kvm_error("KVM_CREATE_DEVICE", e))
}

fn set_address(device: &DeviceFd, what: u32, address: u64) -> Result<(), MiniVmError> {
    let attribute = kvm::kvm_device_attr {
        group: kvm::KVM_DEV_ARM_VGIC_GRP_ADDR,
        attr: what.into(),
        addr: &raw const address as u64,
        ..Default::default()
    };
    set(device, &attribute)
}

fn init(device: &DeviceFd) -> Result<(), MiniVmError> {
    let attribute = kvm::kvm_device_attr {
        group: kvm::KVM_DEV_ARM_VGIC_GRP_CTRL,
        attr: kvm::KVM_DEV_ARM_VGIC_CTRL_INIT.into(),
        ..Default::default()
    };
    set(device, &attribute)
}

fn set(device: &DeviceFd, attribute: &kvm::kvm_device_attr) -> Result<(), MiniVmError> {
    device
        .set_device_attr(attribute)
        .map_err(|e| kvm_error("KVM_SET_DEVICE_ATTR", e))
}
