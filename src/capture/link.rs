//! What the static libpcap asks of the linker and nslab never runs.
//!
//! libpcap can also sniff D-Bus (`pcap-dbus.c`) and, in Ubuntu's build, RDMA devices
//! (`pcap-rdmasniff.c`), and names functions of libdbus and libibverbs for it. Linking those would
//! bring back the start-up cost that the static archive is there to avoid (`.cargo/config.toml`),
//! so each of these functions is answered here by one that fails. `pcap_create` itself calls
//! `ibv_get_device_list`, for which null says "no devices"; the others are behind a device named
//! `dbus-system`, `dbus-session` or `dbus://...`, for which null says "no bus", and `open.rs`
//! refuses such names before libpcap sees them.

use std::{ffi::c_void, ptr};

/// Defines each name as a C function that returns null, and a table that keeps them all in the
/// object file, where the linker finds them whichever archive it reads first.
macro_rules! absent {
    ($($name:ident)*) => {
        $(
            // SAFETY: the symbol is unique in the program, since no crate of it links libdbus or
            // libibverbs; a C caller may pass arguments to a function that reads none of them, on
            // every calling convention that Linux has.
            #[unsafe(no_mangle)]
            extern "C" fn $name() -> *mut c_void {
                ptr::null_mut()
            }
        )*

        #[used]
        static ABSENT: &[extern "C" fn() -> *mut c_void] = &[$($name),*];
    };
}

absent! {
    dbus_bus_add_match
    dbus_bus_get
    dbus_bus_register
    dbus_connection_flush
    dbus_connection_open
    dbus_connection_pop_message
    dbus_connection_read_write
    dbus_connection_send
    dbus_connection_set_max_received_size
    dbus_connection_unref
    dbus_error_free
    dbus_error_is_set
    dbus_free
    dbus_message_demarshal
    dbus_message_is_signal
    dbus_message_marshal
    dbus_message_unref
    ibv_ack_cq_events
    ibv_alloc_pd
    ibv_close_device
    ibv_create_comp_channel
    ibv_create_cq
    ibv_create_qp
    ibv_dealloc_pd
    ibv_dereg_mr
    ibv_destroy_comp_channel
    ibv_destroy_cq
    ibv_destroy_qp
    ibv_free_device_list
    ibv_get_cq_event
    ibv_get_device_list
    ibv_modify_qp
    ibv_open_device
    ibv_query_port
    ibv_reg_mr
    ibv_reg_mr_iova2
    ibv_wc_status_str
}
