// What both sides of the service call it.
#pragma once

#define BUS_NAME "org.example.Memory"
#define BUS_OBJECT "/org/example/memory"
#define BUS_INTERFACE "org.example.Memory"
