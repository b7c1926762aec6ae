// Marks what libmapcap.so exports. Everything else in it is hidden.
#pragma once

#define MAPCAP_API __attribute__((visibility("default")))
