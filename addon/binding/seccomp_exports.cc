// SPDX-License-Identifier: Apache-2.0
// seccompCompile, seccompVersion: from the spec's JSON to the compiler's structures.
#include <napi.h>

#include <cmath>
#include <cstdlib>

#include "binding/arguments.h"
#include "binding/exports.h"
#include "binding/instance.h"
#include "binding/seccomp.h"

namespace binding {

namespace {

bool given(const Napi::Value& value) {
  return !value.IsUndefined() && !value.IsNull();
}

std::vector<std::string> strings(Arguments& arguments, const Napi::Value& value, const std::string& name) {
  std::vector<std::string> out;
  if (!given(value)) return out;
  if (!value.IsArray()) {
    arguments.wrong(name + " must be an array");
    return out;
  }
  const auto list = value.As<Napi::Array>();
  for (uint32_t i = 0; i < list.Length() && arguments.ok(); i++)
    out.push_back(arguments.string(list.Get(i), name + "[" + std::to_string(i) + "]"));
  return out;
}

// 64 bits do not fit into a number of JavaScript: the caller may give them as text, decimal or 0x.
uint64_t wide(Arguments& arguments, const Napi::Value& value, const std::string& name) {
  if (value.IsString()) {
    const std::string text = value.As<Napi::String>().Utf8Value();
    char* end = nullptr;
    errno = 0;
    const uint64_t number = std::strtoull(text.c_str(), &end, 0);
    if (text.empty() || text[0] == '-' || *end != '\0' || errno != 0)
      arguments.wrong(name + " must be a number of 64 bits");
    return number;
  }
  if (value.IsNumber()) {
    const double number = value.As<Napi::Number>().DoubleValue();
    // 2^64 and above cannot be converted.
    if (number >= 0 && number < 18446744073709551616.0 && std::trunc(number) == number)
      return static_cast<uint64_t>(number);
  }
  arguments.wrong(name + " must be a number of 64 bits");
  return 0;
}

std::optional<unsigned> errno_of(Arguments& arguments, const Napi::Value& value, const std::string& name) {
  if (!given(value)) return {};
  return static_cast<unsigned>(arguments.integer(value, name, 0, 0xffff));
}

SeccompRule rule_of(Arguments& arguments, const Napi::Value& value, const std::string& name) {
  SeccompRule rule;
  if (!value.IsObject()) {
    arguments.wrong(name + " must be an object");
    return rule;
  }
  const auto object = value.As<Napi::Object>();
  rule.names = strings(arguments, object.Get("names"), name + ".names");
  rule.action = arguments.string(object.Get("action"), name + ".action");
  rule.errno_ret = errno_of(arguments, object.Get("errnoRet"), name + ".errnoRet");
  const Napi::Value list = object.Get("args");
  if (!given(list)) return rule;
  if (!list.IsArray()) {
    arguments.wrong(name + ".args must be an array");
    return rule;
  }
  for (uint32_t i = 0; i < list.As<Napi::Array>().Length() && arguments.ok(); i++) {
    const std::string where = name + ".args[" + std::to_string(i) + "]";
    const Napi::Value element = list.As<Napi::Array>().Get(i);
    if (!element.IsObject()) {
      arguments.wrong(where + " must be an object");
      break;
    }
    const auto argument = element.As<Napi::Object>();
    SeccompArgument out;
    out.index = static_cast<unsigned>(arguments.integer(argument.Get("index"), where + ".index", 0, 5));
    out.value = wide(arguments, argument.Get("value"), where + ".value");
    if (const Napi::Value second = argument.Get("valueTwo"); given(second))
      out.value_two = wide(arguments, second, where + ".valueTwo");
    out.op = arguments.string(argument.Get("op"), where + ".op");
    rule.arguments.push_back(std::move(out));
  }
  return rule;
}

SeccompProfile profile_of(Arguments& arguments, const Napi::Object& object) {
  SeccompProfile profile;
  profile.default_action = arguments.string(object.Get("defaultAction"), "defaultAction");
  profile.default_errno_ret = errno_of(arguments, object.Get("defaultErrnoRet"), "defaultErrnoRet");
  profile.architectures = strings(arguments, object.Get("architectures"), "architectures");
  if (const Napi::Value flags = object.Get("flags"); given(flags))
    profile.flags = strings(arguments, flags, "flags");
  const Napi::Value rules = object.Get("syscalls");
  if (!given(rules)) return profile;
  if (!rules.IsArray()) {
    arguments.wrong("syscalls must be an array");
    return profile;
  }
  for (uint32_t i = 0; i < rules.As<Napi::Array>().Length() && arguments.ok(); i++)
    profile.rules.push_back(
        rule_of(arguments, rules.As<Napi::Array>().Get(i), "syscalls[" + std::to_string(i) + "]"));
  return profile;
}

Napi::Value seccomp_compile(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(env);
  const std::string json = arguments.string(info[0], "json");
  if (arguments.thrown()) return env.Undefined();
  const auto parse = env.Global().Get("JSON").As<Napi::Object>().Get("parse").As<Napi::Function>();
  const Napi::Value parsed = parse.Call({Napi::String::New(env, json)});
  if (env.IsExceptionPending()) return env.Undefined();
  SeccompProfile profile;
  if (parsed.IsObject())
    profile = profile_of(arguments, parsed.As<Napi::Object>());
  else
    arguments.wrong("json must hold an object");
  if (arguments.thrown()) return env.Undefined();
  SeccompProgram program;
  if (const auto wrong = compile_seccomp(profile, program)) {
    const Napi::Error error =
        Napi::Error::New(env, (wrong->field.empty() ? "" : wrong->field + ": ") + wrong->message);
    error.Set("field", Napi::String::New(env, wrong->field));
    error.ThrowAsJavaScriptException();
    return env.Undefined();
  }
  auto out = Napi::Object::New(env);
  out.Set("program", Napi::Buffer<char>::Copy(env, program.instructions.data(), program.instructions.size()));
  out.Set("flags", Napi::Number::New(env, program.flags));
  return out;
}

Napi::Value seccomp_version(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), seccomp_library_version());
}

}  // namespace

void export_seccomp(Napi::Env env, Napi::Object& exports) {
  add<seccomp_compile>(env, exports, "seccompCompile");
  add<seccomp_version>(env, exports, "seccompVersion");
}

}  // namespace binding
