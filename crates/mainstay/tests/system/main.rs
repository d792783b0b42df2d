//! The whole program on real sockets: its commands, its gateway before upstreams that break in
//! every way of the fault table, and its nodes. Most of these tests wait for a clock, not for a
//! processor, so many run at once; they are one program for that.

mod alone;
mod apart;
mod bed;
mod chaos;
mod check;
mod command_line;
mod console;
mod cuts;
mod dns;
mod drill;
mod embedded;
mod fault_server;
mod faults {
    mod f01_f16;
    mod f17_f21;
    mod f22_f24;
    mod f25_f28;
    mod f29_f32;
    mod f33_f36;
    mod f37_f43;
    mod f44_f50;
    mod f53_f56;
}
mod fleet;
mod incidents;
mod keys;
mod ledger;
mod nodes;
mod policy;
mod probes;
mod reload;
mod simulate;
mod status;
