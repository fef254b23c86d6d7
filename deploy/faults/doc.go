// Package faults harms a running stack and looks what has become of it: it kills and freezes processes, cuts the links
// between them, fills disks and moves clocks while clients work, and then holds what the clients were told against the
// rules of accounts and orders, and the books against each other. Command faults (make faults) runs it for as long as
// wanted; its tests have each kind of fault once.
package faults
