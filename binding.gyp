{
  "targets": [
    {
      "target_name": "libcontainer",
      "product_name": "libcontainer",
      "sources": ["<!@(ls addon/binding/*.cc addon/sys/*.cc)"],
      "include_dirs": ["<!@(node -p \"require('node-addon-api').include_dir\")", "addon", "/usr/include"],
      "defines": ["NAPI_VERSION=9", "NODE_ADDON_API_DISABLE_DEPRECATED", "NAPI_DISABLE_CPP_EXCEPTIONS", "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS", "_GNU_SOURCE"],
      "cflags": ["-fvisibility=hidden"],
      "cflags_cc!": ["-std=gnu++17", "-fno-rtti"],
      "cflags_cc": ["-std=c++20", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-isystem", "<!@(node -p \"require('node-addon-api').include_dir\")"],
      "ldflags": ["-Wl,-z,nodelete"],
      "libraries": ["-ldl", "-lpthread"]
    }
  ]
}
