// SPDX-License-Identifier: Apache-2.0
#include "binding/throw.h"

#include <cstring>

namespace binding {

Napi::Error error_object(Napi::Env env, const sys::Failure& failure) {
  const std::string code = sys::errno_name(failure.error);
  // "ENOENT: No such file or directory, open("/x")"
  const std::string message =
      code + ": " + strerrordesc_np(failure.error) + ", " + failure.syscall + "(" + failure.args + ")";
  const Napi::Error error = Napi::Error::New(env, message);
  error.Set("errno", Napi::Number::New(env, -failure.error));
  error.Set("code", Napi::String::New(env, code));
  error.Set("syscall", Napi::String::New(env, failure.syscall));
  error.Set("args", Napi::String::New(env, failure.args));
  if (!failure.path.empty()) error.Set("path", Napi::String::New(env, failure.path));
  return error;
}

void throw_failure(Napi::Env env, const sys::Failure& failure) {
  error_object(env, failure).ThrowAsJavaScriptException();
}

}  // namespace binding
