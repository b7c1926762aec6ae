// How the kernel schedules the broker's threads, for the sake of those who wait for its answers.
//
// Linux's fair scheduler (EEVDF, 6.6) runs, among the threads that have not yet had their share, the one
// whose slice ends first, and lets it run for that slice, 3 ms by default. A thread with a shorter slice has
// the same share in shorter pieces: it goes before others when it wakes up, and takes the processor from one
// that is in the middle of its slice (PREEMPT_SHORT, 6.12). Answers of the broker take tens of microseconds,
// so it asks for the shortest slice there is, and does not have to wait until a flooder's or a computing
// neighbour's has ended.
#pragma once

namespace mapcap::broker {

/// Of broker and keeper. A thread that worked more than its share waits, on wake-up too, until the others
/// have made up for it; and an interval of the timer interrupt (1 to 10 ms) is the least that a computing
/// neighbour then gets. With nine times the weight of a nice value of 0, what Ration and Throttle leave to
/// flooders is no more than the share that these threads have anyway.
inline constexpr int kPromptNice = -10;

/// The calling thread, and what it starts from now on, runs in slices of 0.1 ms at kPromptNice, or at the
/// nice value that it has where it may not lower it (RLIMIT_NICE, CAP_SYS_NICE). Kernels before 6.12 take the
/// nice value alone. sched_setattr(2).
void run_promptly();

/// Gives that up again for the calling thread: nice 0 and slices of the kernel's choice.
void run_patiently();

}  // namespace mapcap::broker
