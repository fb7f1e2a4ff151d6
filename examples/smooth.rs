//! The op of custom_op.py in Rust, as a library that was built before: the C ABI of `perfx/abi.h`, and nothing else.
//!
//!     rustc --edition 2021 -O --crate-type cdylib -C panic=abort smooth.rs -o libsmooth.so
//!
//! In the place of SourceKernels: `add_kernels("smooth", LibraryKernels(("smooth",), "libsmooth.so"))`.

use std::ffi::{c_char, c_void};

const OK: i32 = 0;
const UNSUPPORTED: i32 = 1;
const FLOAT32: i32 = 11;
const CONTIGUOUS: i32 = 1;

#[repr(C)]
pub struct Tensor {
    data: *mut c_void,
    dtype: i32,
    layout: i32,
    ndim: i32,
    flags: i32,
    shape: [i64; 6],
    strides: [i64; 6],
}

#[repr(C)]
pub struct Call {
    num_inputs: i32,
    num_operands: i32,
    num_attrs: i32,
    reserved: i32,
    operands: *const Tensor,
    attrs: *const f64,
    workspace: *mut c_void,
    workspace_bytes: i64,
}

#[repr(C)]
pub struct Thread {
    index: i32,
    count: i32,
    barrier: extern "C" fn(*const Thread),
    pool: *mut c_void,
    counters: *mut i64,
}

#[repr(C)]
pub struct Kernel {
    op: *const c_char,
    accepts: extern "C" fn(&Call) -> i32,
    workspace: Option<extern "C" fn(&Call, i32) -> i64>,
    run: extern "C" fn(&Call, &Thread) -> i32,
}

#[repr(C)]
pub struct Variant {
    name: *const c_char,
    supported: extern "C" fn() -> i32,
    num_kernels: i32,
    reserved: i32,
    kernels: *const Kernel,
}

#[repr(C)]
pub struct Library {
    abi_version: u32,
    sizes: [u32; 5],
    name: *const c_char,
    num_variants: i32,
    reserved: i32,
    variants: *const Variant,
}

// Pointers to constants: every thread may read them.
unsafe impl Sync for Kernel {}
unsafe impl Sync for Variant {}
unsafe impl Sync for Library {}

impl Call {
    fn operands(&self) -> &[Tensor] {
        unsafe { std::slice::from_raw_parts(self.operands, self.num_operands as usize) }
    }
}

impl Tensor {
    fn shape(&self) -> &[i64] {
        &self.shape[..self.ndim as usize]
    }
}

extern "C" fn any_machine() -> i32 {
    1
}

extern "C" fn accepts(call: &Call) -> i32 {
    let dense = |tensor: &Tensor| tensor.dtype == FLOAT32 && tensor.layout == 0 && tensor.flags & CONTIGUOUS != 0;
    let operands = call.operands();
    if operands.len() == 2 && operands[0].ndim > 0 && operands.iter().all(dense) { OK } else { UNSUPPORTED }
}

/// y[n] = decay * y[n - 1] + (1 - decay) * x[n] along the last axis; each thread takes some of the rows.
extern "C" fn run(call: &Call, thread: &Thread) -> i32 {
    let [x, y] = call.operands() else { return UNSUPPORTED };
    let (length, count) = (*x.shape().last().unwrap() as usize, x.shape().iter().product::<i64>() as usize);
    if count == 0 {
        return OK;
    }
    let decay = unsafe { *call.attrs };
    for row in (thread.index as usize..count / length).step_by(thread.count as usize) {
        let (first, mut state) = (row * length, 0.0);
        for n in first..first + length {
            unsafe {
                state = decay * state + (1.0 - decay) * f64::from(*x.data.cast::<f32>().add(n));
                *y.data.cast::<f32>().add(n) = state as f32;
            }
        }
    }
    OK
}

static KERNELS: [Kernel; 1] = [Kernel { op: c"smooth".as_ptr(), accepts, workspace: None, run }];
static VARIANTS: [Variant; 1] = [Variant {
    name: c"plain".as_ptr(),
    supported: any_machine,
    num_kernels: KERNELS.len() as i32,
    reserved: 0,
    kernels: KERNELS.as_ptr(),
}];
static LIBRARY: Library = Library {
    abi_version: 1,
    sizes: [
        size_of::<Tensor>() as u32,
        size_of::<Call>() as u32,
        size_of::<Thread>() as u32,
        size_of::<Kernel>() as u32,
        size_of::<Variant>() as u32,
    ],
    name: c"smooth".as_ptr(),
    num_variants: VARIANTS.len() as i32,
    reserved: 0,
    variants: VARIANTS.as_ptr(),
};

#[unsafe(no_mangle)]
pub extern "C" fn perfx_library() -> &'static Library {
    &LIBRARY
}
