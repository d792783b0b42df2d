//! One card: its memory, its kernels, and how one of them is started.
#![allow(unsafe_code)]

use crate::error::LoadError;
use cudarc::driver::{
    CudaContext, CudaEvent, CudaFunction, CudaGraph, CudaModule, CudaSlice, CudaStream, DevicePtr,
    DriverError, PinnedHostSlice, sys,
};
use cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

/// The kernels' source: one program of several files.
const SOURCE: [&str; 5] = [
    include_str!("kernels/common.cu"),
    include_str!("kernels/product.cu"),
    include_str!("kernels/parts.cu"),
    include_str!("kernels/attention.cu"),
    include_str!("kernels/hopper.cu"),
];

/// Shared memory that a block gets without asking.
const SHARED_FREE: u32 = 48 << 10;

/// A place in the card's memory.
pub type Pointer = u64;

/// A card with the kernels loaded.
pub struct Card {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    module: Arc<CudaModule>,
    kernels: RefCell<HashMap<&'static str, (CudaFunction, u32)>>,
    /// Activations are f32 too.
    pub is_exact: bool,
    /// Its matrix units are those of compute capability 9.
    pub is_hopper: bool,
}

/// Memory of the card; free again when dropped.
pub struct Buffer {
    slice: CudaSlice<u8>,
    pub pointer: Pointer,
}

/// How many blocks of how many threads, and how much shared memory each block has.
#[derive(Clone, Copy)]
pub struct Grid {
    pub blocks: [usize; 3],
    pub threads: u32,
    pub shared: u32,
}

impl Grid {
    pub fn new(blocks: [usize; 3], threads: u32) -> Grid {
        Grid { blocks, threads, shared: 0 }
    }
}

/// Memory of the host that does not move.
pub struct Host(PinnedHostSlice<f32>);

/// Kernels that are started together.
pub struct Recorded(CudaGraph);

// SAFETY: a graph may be used from any thread, by one at a time; it is reached through the model
// that owns it, by one at a time.
unsafe impl Send for Recorded {}

/// A number, or several, as its bytes: what crosses the bus.
///
/// # Safety
/// Every byte of the type has a value, and every pattern of bytes is one of its values.
pub unsafe trait Plain: Copy + Default {}
// SAFETY: numbers without padding.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for i32 {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for f32 {}

impl Card {
    /// The card of this number, with its kernels compiled for it.
    pub fn open(number: usize, is_exact: bool) -> Result<Card, LoadError> {
        let has = |is_present: bool, what: &str, mend: &str| match is_present {
            true => Ok(()),
            false => Err(LoadError::Card(format!("{what} is not there: {mend}"))),
        };
        // SAFETY: both only look whether a library can be loaded.
        let (driver, compiler) =
            unsafe { (sys::is_culib_present(), cudarc::nvrtc::sys::is_culib_present()) };
        has(
            driver,
            "the driver (libcuda)",
            "install NVIDIA's driver, or compute on the processor",
        )?;
        has(
            compiler,
            "the compiler (libnvrtc)",
            "install CUDA 12.4 or later and let the loader find it",
        )?;
        let context = CudaContext::new(number).map_err(|error| failed("open the card", error))?;
        // SAFETY: everything happens on one stream, in order; nothing has to wait for an event.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().map_err(|error| failed("make a stream", error))?;
        let (major, minor) =
            context.compute_capability().map_err(|error| failed("ask for its kind", error))?;
        if major < 9 {
            return Err(LoadError::Card(format!(
                "the card has compute capability {major}.{minor}, 9.0 is needed (Hopper or later): \
                 compute on the processor"
            )));
        }
        let is_hopper = major == 9;
        // What only this kind of card has is asked for by an "a".
        let kind = if is_hopper { "a" } else { "" };
        let mut options = vec![format!("--gpu-architecture=compute_{major}{minor}{kind}")];
        options.extend(is_hopper.then(|| "-DHOPPER".into()));
        options.push("--std=c++17".into());
        options.extend(is_exact.then(|| "-DEXACT".into()));
        let options = CompileOptions { options, ..CompileOptions::default() };
        let program = compile_ptx_with_opts(SOURCE.concat(), options)
            .map_err(|error| LoadError::Card(format!("the kernels do not compile: {error:?}")))?;
        let module =
            context.load_module(program).map_err(|error| failed("load the kernels", error))?;
        let kernels = RefCell::default();
        Ok(Card { context, stream, module, kernels, is_exact, is_hopper })
    }

    /// Bytes of an activation or a cached number.
    pub fn width(&self) -> usize {
        if self.is_exact { 4 } else { 2 }
    }

    /// Its name, free memory and all of it.
    pub fn describe(&self) -> (String, usize, usize) {
        let (free, all) = check("ask for memory", self.context.mem_get_info());
        (check("ask for its name", self.context.name()), free, all)
    }

    /// Memory whose content is zeros.
    pub fn zeros(&self, bytes: usize) -> Result<Buffer, LoadError> {
        let slice = self.stream.alloc_zeros::<u8>(bytes.max(16)).map_err(|error| {
            LoadError::Memory(format!(
                "{bytes} bytes are not to be had on the card ({error:?}): \
                 take a smaller model or give the cache less memory"
            ))
        })?;
        let pointer = slice.device_ptr(&self.stream).0;
        Ok(Buffer { slice, pointer })
    }

    /// Memory with this content.
    pub fn upload(&self, bytes: &[u8]) -> Result<Buffer, LoadError> {
        let mut buffer = self.zeros(bytes.len())?;
        self.write(&mut buffer, 0, bytes);
        Ok(buffer)
    }

    /// Copies to the card, once what runs is through.
    pub fn write<T: Plain>(&self, buffer: &mut Buffer, at: usize, content: &[T]) {
        if content.is_empty() {
            return;
        }
        // SAFETY: `Plain` types are their bytes; length and alignment of bytes fit any memory.
        let bytes = unsafe {
            std::slice::from_raw_parts(content.as_ptr().cast::<u8>(), size_of_val(content))
        };
        let mut part = buffer.slice.slice_mut(at..at + bytes.len());
        check("copy to the card", self.stream.memcpy_htod(bytes, &mut part));
    }

    /// Copies from the card, once what runs is through.
    pub fn read<T: Plain>(&self, buffer: &Buffer, count: usize) -> Vec<T> {
        let mut content = vec![T::default(); count];
        self.read_to(buffer, &mut content);
        content
    }

    /// Memory of the host that the card reaches by itself, for what comes back in each step.
    pub fn host(&self, count: usize) -> Result<Host, LoadError> {
        // SAFETY: it is only read after `Card::fetch` has written to it.
        let slice = unsafe { self.context.alloc_pinned_with_flags::<f32>(count.max(1), 0) };
        slice.map(Host).map_err(|error| failed("get memory of the host", error))
    }

    /// The first `count` numbers of a buffer, once what runs is through.
    pub fn fetch<'a>(&self, buffer: &Buffer, host: &'a mut Host, count: usize) -> &'a [f32] {
        // SAFETY: the buffer holds as many bytes as numbers of four bytes are asked for, or this
        // view is refused.
        let part = unsafe { buffer.slice.transmute::<f32>(count) };
        let part = part.unwrap_or_else(|| panic!("a buffer holds fewer than {count} numbers"));
        let all = check("reach the host's memory", host.0.as_mut_slice());
        check("copy from the card", self.stream.memcpy_dtoh(&part, &mut all[..count]));
        self.wait();
        &all[..count]
    }

    fn read_to<T: Plain>(&self, buffer: &Buffer, content: &mut [T]) {
        // SAFETY: as in `write`; any bytes are values of a `Plain` type.
        let bytes = unsafe {
            std::slice::from_raw_parts_mut(content.as_mut_ptr().cast::<u8>(), size_of_val(content))
        };
        let part = buffer.slice.slice(0..bytes.len());
        check("copy from the card", self.stream.memcpy_dtoh(&part, bytes));
        self.wait();
    }

    /// Waits until all that was started has ended.
    pub fn wait(&self) {
        check("wait for the card", self.stream.synchronize());
    }

    /// Starts a kernel whose one argument is this struct.
    pub fn launch<T: Copy>(&self, kernel: &'static str, grid: Grid, argument: &T) {
        if grid.blocks.contains(&0) {
            return;
        }
        let function = self.kernel(kernel, grid.shared);
        let [x, y, z] = grid.blocks.map(|count| count as u32);
        let mut attribute = sys::CUlaunchAttribute {
            id: sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
            pad: [0; 4],
            value: sys::CUlaunchAttributeValue { programmaticStreamSerializationAllowed: 1 },
        };
        let config = sys::CUlaunchConfig {
            gridDimX: x,
            gridDimY: y,
            gridDimZ: z,
            blockDimX: grid.threads,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: grid.shared,
            hStream: self.stream.cu_stream(),
            attrs: &mut attribute,
            numAttrs: 1,
        };
        let mut arguments = [std::ptr::from_ref(argument).cast_mut().cast()];
        // SAFETY: the kernel takes one struct by value, of this layout (`arguments` holds both
        // sides); the driver copies it before it returns. Its pointers are into buffers that the
        // model owns for as long as it launches, and its bounds are those they were made for.
        let result = unsafe {
            sys::cuLaunchKernelEx(&config, function, arguments.as_mut_ptr(), std::ptr::null_mut())
        };
        check(kernel, result.result());
    }

    fn kernel(&self, name: &'static str, shared: u32) -> sys::CUfunction {
        let mut kernels = self.kernels.borrow_mut();
        let (function, allowed) = kernels
            .entry(name)
            .or_insert_with(|| (check(name, self.module.load_function(name)), SHARED_FREE));
        if shared > *allowed {
            let attribute =
                sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            check(name, function.set_attribute(attribute, shared as i32));
            *allowed = shared;
        }
        function.cu_function()
    }

    /// Records what `work` starts instead of running it; [`Card::replay`] runs it in one go.
    pub fn record(&self, work: impl FnOnce()) -> Recorded {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        check("record", self.stream.begin_capture(mode));
        work();
        let graph = self.stream.end_capture(sys::CUgraphInstantiate_flags(0));
        Recorded(check("record", graph).unwrap_or_else(|| panic!("nothing was recorded")))
    }

    /// Runs what was recorded.
    pub fn replay(&self, recorded: &Recorded) {
        check("replay", recorded.0.launch());
    }

    /// A moment on the card's own clock.
    pub fn moment(&self) -> CudaEvent {
        let flags = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
        check("record a moment", self.stream.record_event(flags))
    }

    /// Milliseconds from one moment to another, both of which have come.
    pub fn between(&self, start: &CudaEvent, end: &CudaEvent) -> f32 {
        check("wait for a moment", end.synchronize());
        check("compare moments", start.elapsed_ms(end))
    }

    /// Copies all of one buffer to another of the same size.
    pub fn copy(&self, from: &Buffer, to: &mut Buffer) {
        check("copy on the card", self.stream.memcpy_dtod(&from.slice, &mut to.slice));
    }
}

fn failed(what: &str, error: DriverError) -> LoadError {
    LoadError::Card(format!("could not {what}: {error:?}"))
}

/// A card that fails in a step fails the requests of that step, as any panic in one does.
fn check<T>(what: &str, result: Result<T, DriverError>) -> T {
    result.unwrap_or_else(|error| panic!("the card failed at {what}: {error:?}"))
}
