// Compiles HLSL as wgpu's DX12 backend does with FXC. usage: host.exe d3dcompiler_47.dll FILE; prints nothing where it compiles,
// else the message; exit code 0, 1 (it does not), 2 (no compiler or file).
#define COBJMACROS
#include <windows.h>
#include <d3dcommon.h>
#include <stdio.h>
#include <stdlib.h>

typedef HRESULT(WINAPI *compile_function)(const void *source, SIZE_T bytes, const char *name, const void *macros,
                                          void *include, const char *entry, const char *target, UINT flags,
                                          UINT effect_flags, ID3DBlob **code, ID3DBlob **messages);
enum { ENABLE_STRICTNESS = 1 << 11 };

int main(int n, char **arguments) {
  HMODULE library = n == 3 ? LoadLibraryA(arguments[1]) : NULL;
  compile_function compile = library ? (compile_function)(void *)GetProcAddress(library, "D3DCompile") : NULL;
  FILE *file = n == 3 ? fopen(arguments[2], "rb") : NULL;
  if (!compile || !file) return 2;
  static char source[1 << 20];
  size_t bytes = fread(source, 1, sizeof source, file);
  ID3DBlob *code = NULL, *messages = NULL;
  HRESULT result =
      compile(source, bytes, NULL, NULL, NULL, "main", "cs_5_1", ENABLE_STRICTNESS, 0, &code, &messages);
  if (SUCCEEDED(result)) return 0;
  printf("%08lx %s", (unsigned long)result, messages ? (char *)ID3D10Blob_GetBufferPointer(messages) : "");
  return 1;
}
